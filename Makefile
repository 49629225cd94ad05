# SPDX-License-Identifier: PostgreSQL
#
# Everything here is done elsewhere: in extension/, relay/ and dev/.
#
#   make && sudo make install   build and install into PostgreSQL and /usr/local
#   make check                  everything that CI checks (make check-fast: in
#                               under two minutes), on a private PostgreSQL
#   make demo, make demo-stop   the whole path at work, on this machine
#
# PG_CONFIG   which PostgreSQL to build for
# DESTDIR     a directory to install below
# DEV=1       warnings are errors
# SAN=1       with the sanitizers

PG_CONFIG ?= pg_config
export PG_CONFIG DESTDIR DEV SAN

VERSION := $(shell cat VERSION)

all install clean:
	$(MAKE) -C extension $@
	$(MAKE) -C relay $@

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

bench-stock bench-relay bench-inbound bench-debezium:
	bench/run $(@:bench-%=%)

dist:
	git archive --prefix=pgstock-$(VERSION)/ -o pgstock-$(VERSION).tar.gz HEAD

.PHONY: all install clean check check-fast unit regress isolation e2e lint \
	format demo demo-stop bench bench-stock bench-relay bench-inbound \
	bench-debezium dist
