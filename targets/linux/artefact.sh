# Sourced by whatever builds what ships: how it is compiled and linked, beyond Cargo.toml's profile `dist`, and what it may be.

# JetPack 4's. JetPack 5 has 2.31, and so has Raspberry Pi OS 11.
OLDEST_GLIBC=2.27
# Bytes of the stripped program: 14 MiB.
LARGEST=14680064

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
fail() { echo "${0##*/}: $*" >&2; exit 1; }

# Flags are apart by this character, so that the folder's name may have spaces.
compile_with() { for flag; do CARGO_ENCODED_RUSTFLAGS+=${CARGO_ENCODED_RUSTFLAGS:+$'\x1f'}$flag; done; }
export CARGO_ENCODED_RUSTFLAGS=

# triple: what each build for it has in common. On aarch64 and x86-64 no processor is named: the compiler's baseline runs on the oldest
# core, and the kernels that matter are chosen when the program starts, by what the processor says of itself. So are atomics. On armv7 it
# is the oldest Raspberry Pi's core that is named, as it multiplies and adds in one rounding (VFPv4), like all later ones; without that
# it would be a call for each number.
compile_for() {
  local registry
  case $1 in armv7-*) compile_with -C target-cpu=cortex-a7 ;; esac
  # What a panic names is a place in the project or in a crate, and not in a folder of whoever built it: two builds are the same bytes.
  compile_with --remap-path-prefix="$root=srlora" --remap-path-prefix="$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")=target" \
    --remap-path-prefix="$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$(rustc -vV | sed -n 's/^commit-hash: //p')"
  cargo fetch --locked --quiet
  for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do compile_with --remap-path-prefix="${registry%/}=crates"; done
}

# The program ends on a panic, after its message, so tables for unwinding serve nobody; no-unwind.ld drops the standard library's.
# It is linked to a fixed address: the table that moves a program would be in the file. Stack, heap and libraries still lie at random.
compile_program() {
  compile_with -C force-unwind-tables=no -C relocation-model=static -C "link-arg=-Wl,-T,$root/targets/linux/no-unwind.ld"
}

# Linkers that know an old glibc, for a machine of this triple.
needs_zig() {
  [ -z "${SRLORA_ZIG:-}" ] || PATH=$SRLORA_ZIG/bin:$PATH
  command -v rustc >/dev/null || fail "Rust is missing: https://rustup.rs, 1.91 or newer"
  command -v cargo-zigbuild >/dev/null || fail "cargo-zigbuild is missing; it links against an old glibc:
  python3 -m venv ~/.local/srlora-zig && ~/.local/srlora-zig/bin/pip install cargo-zigbuild ziglang
  export SRLORA_ZIG=~/.local/srlora-zig"
  [ -d "$(rustc --print sysroot)/lib/rustlib/$1" ] || fail "Rust's library for it is missing: rustup target add $1"
}

# triple: exports the linkers that cargo-zigbuild names to Cargo, so that maturin links with them too. With other ones, Cargo would build
# everything anew.
link_with_zig() {
  local place variable
  place=$(mktemp -d)
  printf '#!/bin/sh\nexec env -0\n' >"$place/cargo"
  chmod +x "$place/cargo"
  while IFS= read -r -d '' variable; do
    case $variable in
      CARGO_TARGET_*_LINKER=* | CC_* | CXX_* | AR_* | RANLIB_* | BINDGEN_EXTRA_* | CMAKE_TOOLCHAIN_*) export "${variable?}" ;;
    esac
  done < <(PATH=$place:$PATH CARGO=$place/cargo cargo-zigbuild zigbuild --target "$1.$OLDEST_GLIBC")
  rm -r "$place"
}

# file: the newest glibc that it asks for
newest_glibc() { readelf -VW "$1" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -1 || true; }

# file, newest glibc that it may ask for: fails where it asks for a newer one
check_glibc() {
  local glibc
  glibc=$(newest_glibc "$1")
  [ -n "$glibc" ] || fail "readelf finds no version of glibc in $1"
  printf 'glibc     %s, of %s\n' "$glibc" "$2"
  [ "$(printf '%s\n' "$glibc" "$2" | sort -V | tail -1)" = "$2" ] || fail "$1 asks for a newer glibc than the oldest system has"
}

# program, newest glibc: says what it is; fails where it is larger, or asks for a newer glibc
check() {
  local size
  size=$(stat -c %s "$1")
  printf 'artefact  %s\nsize      %s bytes, stripped, of %s\n' "$1" "$size" $LARGEST
  check_glibc "$1" "$2"
  ! readelf -SW "$1" | grep -q '\.symtab' || fail "$1 is not stripped"
  [ "$size" -le $LARGEST ] || fail "$1 is larger than it may be"
}
