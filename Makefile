# SPDX-License-Identifier: PostgreSQL
#
# What is built is built in extension/, relay/ and gateway/; dev/ has the rest.
#
#   make && sudo make install   build and install into PostgreSQL and /usr/local
#   make deb                    Debian packages, in dist/
#   make dist                   the source as a .tar.gz, as a .zip for PGXN, and
#                               its SBOM, in dist/
#   make check                  everything that CI checks (make check-fast: in
#                               under two minutes), on a private PostgreSQL
#   make demo, make demo-stop   the whole path at work, on this machine
#
# PG_CONFIG   which PostgreSQL to build for
# prefix      where the daemons and what belongs to them are installed:
#             /usr/local
# sysconfdir  where their configuration is: /etc
# DESTDIR     a directory to install below
# DEV=1       warnings are errors
# SAN=1       with the sanitizers

PG_CONFIG ?= pg_config
PREFIX ?= /usr/local
prefix ?= $(PREFIX)
sysconfdir ?= /etc
unitdir ?= $(prefix)/lib/systemd/system
sysusersdir ?= $(prefix)/lib/sysusers.d
datadir ?= $(prefix)/share
INSTALL ?= install
export PG_CONFIG DESTDIR DEV SAN prefix

all install clean:
	$(MAKE) -C extension $@
	$(MAKE) -C front $@
	$(MAKE) -C relay $@
	$(MAKE) -C gateway $@

install: install-files

# copy DIRECTORY,FILES: nothing where there are no such files
copy = $(if $(strip $2),$(INSTALL) -d '$(DESTDIR)$1' && \
	$(INSTALL) -m 644 $2 '$(DESTDIR)$1/')
# FILE, the last part, from FILE in the source, with the paths of this prefix
configure = $(INSTALL) -d '$(DESTDIR)$(dir $1)' && \
	sed 's|/usr/bin/|$(prefix)/bin/|; s|/usr/share/|$(datadir)/|' $2 \
		>'$(DESTDIR)$1' && chmod 644 '$(DESTDIR)$1'

# of a daemon: its unit, its user, and its configuration, unless there is one
install-daemon = $(call configure,$(unitdir)/$1.service,deploy/$1.service) && \
	$(call configure,$(sysusersdir)/$1.conf,deploy/$1.sysusers) && \
	$(if $(wildcard $(DESTDIR)$(sysconfdir)/pgstock/$1.conf),true,\
		$(call copy,$(sysconfdir)/pgstock,deploy/$1.conf))

# All that is installed besides the extension and the programs.  The packages
# are made of what this leaves (debian/*.install); a configuration that is
# there already is kept.
install-files:
	$(call install-daemon,pgstock-relay)
	$(call install-daemon,pgstock-gateway)
	$(call configure,$(unitdir)/pgstock-relay@.service,\
		deploy/pgstock-relay@.service)
	$(call copy,$(datadir)/pgstock/grafana,$(wildcard deploy/grafana/*.json))
	$(call copy,$(datadir)/pgstock/prometheus,\
		$(filter-out %.test.yml,$(wildcard deploy/prometheus/*.yml)))
	$(call copy,$(datadir)/pgstock/kubernetes,$(wildcard deploy/kubernetes/*.yaml))
	$(call copy,$(datadir)/pgstock/patroni,$(wildcard deploy/patroni/*))
	$(call copy,$(datadir)/pgstock/shards,$(wildcard deploy/shards/*.service \
		deploy/shards/*.cfg deploy/shards/*.ini))
	$(INSTALL) deploy/shards/pgstock-shards '$(DESTDIR)$(datadir)/pgstock/shards/'
	$(call copy,$(datadir)/doc/pgstock,$(wildcard *.md) LICENSE)
	$(call copy,$(datadir)/doc/pgstock/docs,$(wildcard docs/*.md docs/*.svg))
	$(call copy,$(datadir)/doc/pgstock/docs/decisions,\
		$(wildcard docs/decisions/*.md))
	$(foreach dir,docs/schemas $(patsubst %/,%,$(wildcard docs/schemas/*/)) \
		examples $(patsubst %/,%,$(wildcard examples/*/)),\
		$(or $(call copy,$(datadir)/doc/pgstock/$(dir),\
			$(wildcard $(dir)/*.*)),true) && ) true

check:
	dev/check

check-fast:
	dev/check fast

unit regress isolation e2e:
	dev/check $@

lint format demo demo-stop:
	dev/$@

bench:
	bench/run

bench-stock bench-relay bench-inbound bench-answers bench-gateway \
bench-shards bench-refused bench-debezium:
	bench/run $(@:bench-%=%)

deb dist sbom:
	dev/$@

.PHONY: all install install-files clean deb sbom check check-fast unit regress isolation e2e lint \
	format demo demo-stop bench bench-stock bench-relay bench-inbound bench-answers \
	bench-gateway bench-shards bench-refused bench-debezium dist
