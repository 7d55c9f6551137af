#!/usr/bin/env bash
# Runs a static x86-64 Linux program on an emulated CPU with AVX512-BF16 and AMX, prints what it prints, and exits with its status.
#
#   BOCHS_SOURCE=FOLDER KERNEL_IMAGE=VMLINUZ ./scripts/kernels/machine.sh [--timeout SECONDS] PROGRAM [ARGUMENT ...]
#
# README.md beside this file says where the two come from. Other exit statuses: 124 the time is over, 125 the machine failed (its
# log is named), 2 wrong usage.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${EMULATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rag-retrieval/emulator}
memory=512  # MiB

die() { printf '%s\n' "machine.sh: $1" >&2; exit "${2:-2}"; }

limit=600
while [[ ${1-} == -* ]]; do
  case $1 in
  --timeout) limit=${2:?--timeout needs seconds}; shift 2 ;;
  *) die "unknown option $1" ;;
  esac
done
[ $# -ge 1 ] || die "no program; usage: machine.sh [--timeout SECONDS] PROGRAM [ARGUMENT ...]"
program=$1; shift
[ -x "$program" ] || die "$program: not an executable file"
[ -f "${KERNEL_IMAGE-}" ] || die "KERNEL_IMAGE=${KERNEL_IMAGE-}: name the file of a Linux kernel (README.md)"

# Bochs is built in a copy of its source, and again where bochs.patch changed; the built one is moved into place last.
build_bochs() {
  [ ! -x "$cache/bochs/bochs" ] || ! cmp -s "$here/bochs.patch" "$cache/bochs/applied.patch" || return 0
  [ -f "${BOCHS_SOURCE-}/configure" ] || die "BOCHS_SOURCE=${BOCHS_SOURCE-}: name the folder with Bochs's configure (README.md)"
  local work=$cache/bochs.$$
  mkdir -p "$work"
  cp -r "$BOCHS_SOURCE/." "$work/"
  printf 'building Bochs in %s (minutes)\n' "$cache" >&2
  (
    cd "$work"
    # Without the pin of the A20 gate: Bochs loads the images before its first reset opens the gate, and all of them to address 0.
    patch -p1 <"$here/bochs.patch" && cp "$here/bochs.patch" applied.patch &&
      CXXFLAGS=-O2 CFLAGS=-O2 ./configure --enable-x86-64 --enable-cpu-level=6 --enable-avx --enable-evex --enable-amx \
        --enable-protection-keys --enable-long-phy-address --disable-a20-pin --enable-all-optimizations \
        --with-nogui --disable-docbook --disable-xpm --disable-cdrom &&
      make -j"$(nproc)"
  ) >"$work.log" 2>&1 || die "Bochs was not built: $work.log" 125
  rm -rf "$cache/bochs" "$work.log"
  mv "$work" "$cache/bochs"
}

# number FILE OFFSET BYTES reads a little-endian number; put FILE OFFSET BYTES VALUE writes one.
number() { od -An -tu"$3" -j"$2" -N"$3" "$1" | tr -d ' '; }
put() {
  local i bytes=
  for ((i = 0; i < $3; i++)); do bytes+=$(printf '\\x%02x' $(($4 >> 8 * i & 255))); done
  printf "$bytes" | dd of="$1" bs=1 seek=$(($2)) conv=notrunc status=none
}

# entry NAME MODE FILE is one file of an archive that the kernel unpacks (cpio, "newc").
entry() {
  local size=0
  [ -z "$3" ] || size=$(wc -c <"$3")
  printf '070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\0' 0 $(($2)) 0 0 1 0 "$size" 0 0 0 0 $((${#1} + 1)) 0 "$1"
  head -c $(((4 - (110 + ${#1} + 1) % 4) % 4)) /dev/zero
  [ -z "$3" ] || cat "$3"
  head -c $(((4 - size % 4) % 4)) /dev/zero
}

# boot makes what a boot loader would leave in memory; Bochs puts it there itself (optramimage), so that no boot loader and no disk is needed.
# Linux, Documentation/arch/x86/boot.rst:
#   0x90000    the kernel's first sectors, which run in real mode      0x9e000  command line
#   0x100000   the rest of the kernel
#   0x8000000  the archive of files: /init, /test, /arguments
# The floppy disk has one sector, which jumps to 0x90200.
#
# clearcpuid=580 hides FSRM: Linux relies on ERMS where a CPU has FSRM, and switches ERMS off because Bochs lacks IA32_MISC_ENABLE. Its
# memmove then overruns. no5lvl, nokaslr, mitigations=off: less to emulate.
boot() {
  local sectors ramdisk=$((0x8000000)) line='console=ttyS0 earlyprintk=serial,ttyS0,115200 panic=-1 clearcpuid=580'
  line+=' no5lvl nokaslr tsc=reliable mitigations=off random.trust_cpu=on'
  [ "$(number "$KERNEL_IMAGE" $((0x202)) 2)" -ge $((0x20c)) ] || die "$KERNEL_IMAGE: not a Linux kernel for x86 (bzImage)"
  sectors=$(($(number "$KERNEL_IMAGE" $((0x1f1)) 1) + 1))
  head -c $((sectors * 512)) "$KERNEL_IMAGE" >setup
  tail -c +$((sectors * 512 + 1)) "$KERNEL_IMAGE" >kernel
  : >arguments
  [ $# = 0 ] || printf '%s\0' "$@" >arguments
  { entry init 0100755 "$cache/init"; entry test 0100755 "$program"; entry arguments 0100644 arguments; entry 'TRAILER!!!' 0 ''; } >files
  put setup 0x210 1 0xff                     # type_of_loader: none of the known ones
  put setup 0x211 1 $((0x81))                # loadflags: the kernel is loaded high, heap_end_ptr is set
  put setup 0x218 4 "$ramdisk"
  put setup 0x21c 4 "$(wc -c <files)"
  put setup 0x224 2 $((0xde00))              # heap_end_ptr
  put setup 0x228 4 $((0x9e000))             # cmd_line_ptr
  printf '%s\0' "$line" >line
  # cli; ax = 0x9000; ds, es, fs, gs, ss = ax; sp = 0xde00; jmp 0x9020:0
  printf '\xfa\xb8\x00\x90\x8e\xd8\x8e\xc0\x8e\xe0\x8e\xe8\x8e\xd0\xbc\x00\xde\xea\x00\x00\x20\x90' >floppy
  truncate -s 1474560 floppy
  put floppy 510 2 $((0xaa55))
}

configuration() {
  cat <<END
display_library: nogui
cpu: model=sapphire_rapids, count=1, ips=50000000, reset_on_triple_fault=0
memory: guest=$memory, host=$memory
romimage: file="$cache/bochs/bios/BIOS-bochs-latest", options=fastboot
vgaromimage: file="$cache/bochs/bios/VGABIOS-lgpl/VGABIOS-lgpl-latest.bin"
optramimage1: file=setup, address=0x90000
optramimage2: file=line, address=0x9e000
optramimage3: file=kernel, address=0x100000
optramimage4: file=files, address=0x8000000
floppya: 1_44=floppy, status=inserted
boot: floppy
com1: enabled=1, mode=file, dev=console
com2: enabled=1, mode=file, dev=output
clock: sync=none
log: bochs.log
panic: action=fatal
error: action=report
info: action=report
debug: action=ignore
END
}

build_bochs
if [ ! "$cache/init" -nt "$here/init.c" ]; then
  "${CC:-cc}" -O2 -Wall -static -o "$cache/init.$$" "$here/init.c" || die "init.c was not compiled" 125
  mv "$cache/init.$$" "$cache/init"
fi
program=$(realpath "$program") KERNEL_IMAGE=$(realpath "$KERNEL_IMAGE")
run=$(mktemp -d "${TMPDIR:-/tmp}/machine.XXXXXX")
cd "$run"
boot "$@"
configuration >bochsrc
: >console; : >output
timeout "$limit" "$cache/bochs/bochs" -q -f bochsrc >bochs.out 2>&1 </dev/null &
emulator=$!
trap 'kill "$emulator" 2>/dev/null || true' EXIT  # Ctrl-C does not reach a job in the background
tail -c +1 -f --pid="$emulator" -s 0.2 output
wait "$emulator" && code=0 || code=$?
status=$(tr -d '\r' <console | sed -n 's/^status \([0-9]*\)$/\1/p')
[ "$code" != 124 ] || die "not done after $limit s; see $run/console" 124
[ -n "$status" ] || die "the machine failed; see $run/console and $run/bochs.log" 125
tr -d '\r' <console | sed -n 's/^\(signal .*\)$/\1/p' >&2
rm -rf "$run"
exit "$status"
