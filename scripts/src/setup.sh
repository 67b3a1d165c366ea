# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Sourced by the scripts of this project: everything they need before node can run one of their own files.
# Sets $root; everything it says goes to standard error.

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)

setup_fail() {
	echo "$1" >&2
	exit 125
}

# depmod and modprobe, where users have no such directory in their PATH.
export PATH=$PATH:/usr/sbin:/sbin

command -v node >/dev/null || setup_fail 'node is missing: install Node.js 20.19 or later'
node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' ||
	setup_fail "Node.js 20.19 or later is needed, $(node --version) is what $(command -v node) is"

# node_modules is as package-lock.json wants it, once for each state of that file.
setup_modules() {
	local wanted stamp=$root/node_modules/.dmabuf-lock
	wanted=$(sha256sum <"$root/package-lock.json")
	[ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
	echo '… installing node modules' >&2
	(
		flock 9
		[ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0
		log=$(mktemp)
		trap 'rm -f "$log"' EXIT
		if ! npm ci --prefix "$root" --no-audit --no-fund --loglevel=error >"$log" 2>&1 </dev/null; then
			tail -n 20 "$log" >&2
			exit 1
		fi
		echo "$wanted" >"$stamp"
	) 9>"$root/.setup.lock" || setup_fail 'npm ci failed'
	echo '✓ installing node modules' >&2
}

setup_modules

# Runs one of the project's TypeScript files instead of this shell.
run_script() {
	local script=$1
	shift
	exec node --no-warnings --import "$root/node_modules/tsx/dist/loader.mjs" "$root/scripts/src/$script" "$@"
}
