# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
# Where everything is, and the fixed identity of every kernel build. Sourced, not run.
#
# Nothing that names this clone or this moment may reach the compiler: ccache must
# answer for another clone in another folder. Output directories are therefore
# direct children of the source tree, which makes kbuild use ".." for the source.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build
linux=$build/linux		# base + overlay + series
stock=$build/stock		# base alone, never edited: the reference for both
base_version=$(<"$root/configs/base-version")
jobs=${JOBS:-$(nproc)}
script=${0##*/}

export CCACHE_BASEDIR=$root
export CCACHE_NOHASHDIR=1
export CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-20G}
# The compiler names the headers as it goes: no preprocessing twice on a miss.
export CCACHE_DEPEND=1
export CCACHE_SLOPPINESS=time_macros,include_file_mtime,include_file_ctime
export KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 2026'
export KBUILD_BUILD_USER=pgprotect
export KBUILD_BUILD_HOST=build
export KBUILD_BUILD_VERSION=1
export LC_ALL=C.UTF-8
# A make above us must not pass its own flags and variables down to kbuild.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES

die() { printf '%s: %s\n' "$script" "$*" >&2; exit 1; }
usage_error() { printf '%s: %s\n' "$script" "$*" >&2; exit 2; }

# say TEXT: one line with the time since the outermost script started.
export STEP_T0=${STEP_T0:-$(date +%s)}
say() {
	local t=$(($(date +%s) - STEP_T0))
	printf '[%2d:%02d] %s\n' $((t / 60)) $((t % 60)) "$*"
}

# The patches, in order.
list_series() {
	[[ -e $root/patches/linux/series ]] || return 0
	sed -e 's/[[:space:]]*#.*//' -e '/^[[:space:]]*$/d' "$root/patches/linux/series"
}

# Kernels: the tree each is built from, its output directory and its fragments.
kernels=(pgprotect debug kcsan unshared off stock)
kernel_tree() { case $1 in stock) echo "$stock" ;; *) echo "$linux" ;; esac; }
kernel_out() { echo "$(kernel_tree "$1")/O.$1"; }
kernel_known() {
	local k
	for k in "${kernels[@]}"; do [[ $k == "$1" ]] && return; done
	usage_error "unknown kernel '$1'; one of: ${kernels[*]}"
}
