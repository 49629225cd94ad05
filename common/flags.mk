# SPDX-License-Identifier: PostgreSQL
#
# common/flags.mk - how the daemons are compiled; included by their Makefiles,
# which set BUILD, VERSION, PACKAGES and FOLDERS before

.DEFAULT_GOAL := all

WARNINGS = -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion \
	-Wcast-qual -Wwrite-strings -Wformat=2 -Wundef -Wvla -Wswitch-enum \
	-Wstrict-prototypes -Wmissing-prototypes -Wnull-dereference \
	-Wdeclaration-after-statement
# what only gcc knows
GCC_WARNINGS = -Wduplicated-cond -Wlogical-op -Wjump-misses-init
ifeq ($(shell $(CC) -dM -E -x c /dev/null | grep -c __clang__),0)
WARNINGS += $(GCC_WARNINGS)
else
# the text in Assert(!"..."), and librdkafka's RD_KAFKA_V_KEY
WARNINGS += -Wno-string-conversion -Wno-cast-qual
endif

CFLAGS ?= -O2 -g
override CPPFLAGS += -D_GNU_SOURCE -DPGSTOCK_VERSION='"$(VERSION)"' -I. -I.. \
	-MMD -MP
override CFLAGS += -std=c11 $(WARNINGS) -fPIE -fstack-protector-strong \
	$(shell $(PKG_CONFIG) --cflags $(PACKAGES))
override LDFLAGS += -pie -Wl,-z,relro,-z,now
LDLIBS = $(shell $(PKG_CONFIG) --libs $(PACKAGES)) -lpthread -lm

ifneq ($(DEV),)
override CFLAGS += -Werror
endif
ifneq ($(SAN),)
override CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=all \
	-fno-omit-frame-pointer
else
override CPPFLAGS += -D_FORTIFY_SOURCE=2
endif

# A change of flags or version builds anew.
$(BUILD)/flags: FORCE
	@mkdir -p $(BUILD)/unit $(FOLDERS:%=$(BUILD)/%)
	@printf '%s\n' '$(CC) $(subst ','\'',$(CPPFLAGS) $(CFLAGS))' >$@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(BUILD)/%.o: %.c $(BUILD)/flags
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(BUILD)/common/%.o: ../common/%.c $(BUILD)/flags
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<
