# Sourced by both builds: how the program that ships is compiled and linked, beyond Cargo.toml's profile `dist`, and what it may be.

# JetPack 4's. JetPack 5 has 2.31, and so has Raspberry Pi OS 11.
OLDEST_GLIBC=2.27
# Bytes of the stripped program: 12 MiB.
LARGEST=12582912
# The program ends on a panic, after its message, so tables for unwinding serve nobody; no-unwind.ld drops the standard library's.
# It is linked to a fixed address: the table that moves a program would be in the file. Stack, heap and libraries still lie at random.
# Flags are apart by this character, so that the folder's name may have spaces.
compile_with() { for flag; do CARGO_ENCODED_RUSTFLAGS+=${CARGO_ENCODED_RUSTFLAGS:+$'\x1f'}$flag; done; }
export CARGO_ENCODED_RUSTFLAGS=
compile_with -C force-unwind-tables=no -C relocation-model=static -C "link-arg=-Wl,-T,$here/no-unwind.ld"

fail() { echo "${0##*/}: $*" >&2; exit 1; }

# file, newest glibc: says what it is; fails where it is larger, or asks for a newer glibc
check() {
  local size glibc
  size=$(stat -c %s "$1")
  glibc=$(readelf -VW "$1" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -1 || true)
  [ -n "$glibc" ] || fail "readelf finds no version of glibc in $1"
  printf 'artefact  %s\nsize      %s bytes, stripped, of %s\nglibc     %s, of %s\n' "$1" "$size" $LARGEST "$glibc" "$2"
  ! readelf -SW "$1" | grep -q '\.symtab' || fail "$1 is not stripped"
  [ "$size" -le $LARGEST ] || fail "$1 is larger than it may be"
  [ "$(printf '%s\n' "$glibc" "$2" | sort -V | tail -1)" = "$2" ] || fail "$1 asks for a newer glibc than the oldest system has"
}
