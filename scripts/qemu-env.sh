# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154
# Where QEMU is built, of what and how. Sourced after build-env.sh, not run.

qemu_build=$build/qemu
qemu_stock=$qemu_build/stock		# Debian's source package with Debian's patches, never edited
qemu_tree=$qemu_build/tree		# the same with patches/qemu/series
qemu_out=$qemu_build/tree/build
qemu_edit=$qemu_build/edit		# the same, one commit a patch
qemu_patches=$root/patches/qemu
qemu=$qemu_build/qemu-system-x86_64	# the result
qemu_version=$(grep -v "^#" "$qemu_patches/base-version")

# Only what the tests use; firmware comes from Debian's packages, by -L.
qemu_configure=(
	--meson=/usr/bin/meson "--cc=ccache gcc"
	--target-list=x86_64-softmmu --without-default-features
	--enable-tcg --enable-kvm --enable-fdt=system --enable-vhost-user
	--disable-tools --disable-docs --disable-werror --disable-install-blobs
)

list_qemu_series() { sed -e 's/[[:space:]]*#.*//' -e '/^[[:space:]]*$/d' "$qemu_patches/series"; }
