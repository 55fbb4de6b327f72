# SPDX-License-Identifier: GPL-2.0
# Short targets; the work is in scripts/, tools/pgprotect/ and tests/.

PREFIX ?= /usr/local
O := $(CURDIR)/build

# Given on the command line or in the environment, read by the scripts.
export COVERAGE KERNEL CMD TEST QEMU CPUS MEM ICOUNT TIMEOUT SWAP NUMA VM_OUT VM_LOG VM_APPEND VM_ACCEL JOBS MINUTES SEED PTSHARE

.DEFAULT_GOAL := help
.PHONY: help demo check check-peers check-qemu stress fuzz kernel kernels prepare tools unit guest-tests vm bench lint deb install clean distclean

help:
	@echo 'pgprotect: per-file write protection for Linux.'
	@echo
	@echo '  make demo       boot a guest, watch and fence a running PostgreSQL;'
	@echo '                  QEMU=1 shows background snapshots of QEMU after it'
	@echo '  make check      build everything, run every test on two kernels'
	@echo '                  TEST=group/name KERNEL=debug runs one test on one kernel'
	@echo '  make stress     writers by all routes for a long time: MINUTES=10 SEED=…'
	@echo '  make fuzz       calls of all kinds by processes that share files: MINUTES=10 SEED=…'
	@echo '  make check-qemu background snapshots of QEMU with the series of patches/qemu'
	@echo "  make check-peers   the base kernel's own tests, stress-ng, fio: stock against patched"
	@echo
	@echo '  make prepare    install packages, make build/linux: base, overlay, series'
	@echo '  make kernel     build a kernel: KERNEL=pgprotect|debug|kcsan|unshared|off|stock'
	@echo '  make kernels    build all four'
	@echo '  make tools      build the library and the command in build/tools'
	@echo '  make unit       build and run the tests that need no guest'
	@echo '  make lint       sparse, W=1, checkpatch, shellcheck'
	@echo "  make vm CMD='…' run a command in a guest; KERNEL= CPUS=2 MEM=4G ICOUNT=1"
	@echo '                  TIMEOUT=120 SWAP=1 NUMA=2 (scripts/vm -h says more)'
	@echo '  make bench      compare with userfaultfd-wp and mprotect: build/bench/results.jsonl'
	@echo '  make deb        Debian packages in build/deb'
	@echo '  make install    library and command to DESTDIR and PREFIX=$(PREFIX)'
	@echo '  make clean      remove build results; distclean removes build/ with the sources'

prepare:
	@scripts/prepare

kernel:
	@scripts/build $(or $(KERNEL),pgprotect)

kernels:
	@scripts/build pgprotect debug off stock

tools:
	@$(MAKE) --no-print-directory -C tools/pgprotect O=$(O)/tools

guest-tests: tools
	@$(MAKE) --no-print-directory -C tests/guest O=$(O)/tests/guest

unit:
	@scripts/check unit

lint:
	@scripts/check-series --lint

check:
	@scripts/check $(TEST)

check-peers:
	@scripts/check-peers $(TEST)

check-qemu:
	@scripts/check-qemu

stress:
	@scripts/stress

fuzz:
	@scripts/fuzz

vm:
	@$(if $(CMD),,echo "usage: make vm CMD='…'; scripts/vm -h" >&2; exit 2;) \
	scripts/build --quiet $(or $(KERNEL),pgprotect) && scripts/vm "$$CMD"

demo:
	@scripts/demo

bench:
	@scripts/bench

deb:
	@scripts/deb

install: tools
	@$(MAKE) --no-print-directory -C tools/pgprotect O=$(O)/tools PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) install

clean:
	rm -rf build/tools build/tests build/check build/peers build/bench build/vm build/vm-out build/deb build/kernels
	rm -rf build/linux/O.* build/stock/O.* build/qemu/tree/build build/qemu/qemu-system-x86_64*

distclean:
	rm -rf build
