# SPDX-License-Identifier: PostgreSQL
#
# common/documents.mk - a daemon's manual pages and completion, and what is
# installed of it; included by the Makefiles of the daemons behind flags.mk
#
# They set PROGRAM, and OBJECTS, all but main.o.  bash_dir and zsh_dir may name
# the directories of bash and zsh.

prefix ?= $(PREFIX)
bash_dir ?= $(prefix)/share/bash-completion/completions
zsh_dir ?= $(prefix)/share/zsh/site-functions
man_dir ?= $(prefix)/share/man

DOCUMENT = document/document $(patsubst %,common/document/%,completion document \
	manual)
DOCUMENTS = $(BUILD)/$(PROGRAM).1 $(BUILD)/$(PROGRAM).conf.5 \
	$(BUILD)/$(PROGRAM).bash $(BUILD)/_$(PROGRAM)

all: $(BUILD)/$(PROGRAM) $(DOCUMENTS)

# It makes the documents, and is not installed.
$(BUILD)/make-documents: $(DOCUMENT:%=$(BUILD)/%.o) $(OBJECTS:%=$(BUILD)/%)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/%.1: man/%.1.in $(BUILD)/make-documents
	$(BUILD)/make-documents manual <$< >$@.new
	mv $@.new $@

$(BUILD)/%.5: man/%.5.in $(BUILD)/make-documents
	$(BUILD)/make-documents manual <$< >$@.new
	mv $@.new $@

$(BUILD)/$(PROGRAM).bash: $(BUILD)/make-documents
	$(BUILD)/make-documents bash >$@.new
	mv $@.new $@

$(BUILD)/_$(PROGRAM): $(BUILD)/make-documents
	$(BUILD)/make-documents zsh >$@.new
	mv $@.new $@

install: all
	$(INSTALL) -d '$(DESTDIR)$(prefix)/bin' '$(DESTDIR)$(man_dir)/man1' \
		'$(DESTDIR)$(man_dir)/man5' '$(DESTDIR)$(bash_dir)' '$(DESTDIR)$(zsh_dir)'
	$(INSTALL) -m 755 $(BUILD)/$(PROGRAM) '$(DESTDIR)$(prefix)/bin/'
	$(INSTALL) -m 644 $(BUILD)/$(PROGRAM).1 '$(DESTDIR)$(man_dir)/man1/'
	$(INSTALL) -m 644 $(BUILD)/$(PROGRAM).conf.5 '$(DESTDIR)$(man_dir)/man5/'
	$(INSTALL) -m 644 $(BUILD)/$(PROGRAM).bash \
		'$(DESTDIR)$(bash_dir)/$(PROGRAM)'
	$(INSTALL) -m 644 $(BUILD)/_$(PROGRAM) '$(DESTDIR)$(zsh_dir)/'

.PHONY: all install
