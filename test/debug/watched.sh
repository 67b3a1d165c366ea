#!/bin/sh
# SPDX-License-Identifier: MIT
# watched.sh COMMAND ARGUMENT...: runs a command in a guest with the debug kernel, then looks for what it left behind,
# and keeps what the modules counted of their lines. In /share: left/, a file for each problem found, and done when
# all was looked at; gcov/. Ends with the command's exit code, or with 1 if only something was left.
set -u
debugfs=/sys/kernel/debug
stacks=$debugfs/page_owner_stacks/show_stacks
tracefs=/sys/kernel/tracing
left=/share/left
mkdir -p $left
page=$(getconf PAGESIZE)

# problem NAME: what it reads is one, unless it is nothing.
problem() {
	cat >"$left/$1"
	if [ -s "$left/$1" ]; then sed "s/^/left behind: /" "$left/$1" >&2; else rm "$left/$1"; fi
}

# What looks for problems turns itself off where it lacks memory.
blind() {
	[ "$(cat $debugfs/dma-api/disabled)" = N ] || echo 'nobody checks the use of the DMA API'
	# To its end: where a reader stops earlier, 6.12 frees an entry that is still in the kernel's list.
	awk 'END { exit !NR }' $stacks || echo 'nobody knows the owners of pages'
	echo scan >$debugfs/kmemleak || echo 'nobody looks for leaks'
}

# Buffers that nobody has: the exporter's own page is all there is. What a dying process held may take a while.
count() {
	for device in exporter ion cma_mem; do
		(cd "/sys/class/misc/$device" && echo "$device: $(cat buffers) buffers, $(cat bytes) bytes")
	done
}
nothing_held="exporter: 1 buffers, $page bytes
ion: 0 buffers, 0 bytes
cma_mem: 0 buffers, 0 bytes"
held() {
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		[ "$(count 2>&1)" = "$nothing_held" ] && return
		sleep 1
	done
	count
}

# What is kept for buffers to come.
drain() {
	[ ! -e $debugfs/ion/drain ] || echo 1 >$debugfs/ion/drain || echo 'nobody drained the pool'
}

# pages N: pages of buffers, which kmemleak does not know, by who asked the page allocator for them, if they are not N.
# What the kernel takes for itself on the way is kmemleak's. Code that was unloaded has an address for a name, the end
# of a stack 0x0.
pages() {
	awk -v RS= -v FS='\n' -v OFS='\n' -v expected="$1" '
		/(slab|vmap|pte_alloc|misc_register|kmalloc)/ { next }
		/dmabuf_[^\n]*\[dmabuf_core\]|\n 0x[1-9a-f][0-9a-f]*\n/ {
			sub(/.*nr_base_pages: /, "pages: ", $NF); sum += substr($NF, 8); found = found "\n\n" $0
		}
		END { if (sum != expected) printf "%d pages of buffers, not %d:%s\n", sum, expected, found }
	' $stacks || echo 'nobody counted pages'
}

# What nothing points to. kmemleak leaves alone what is younger than 5 s, whose owner may not have noted it yet; its
# first scan notes the contents of what it suspects, the second one reports what has not changed since.
leaks() {
	sleep 6
	for _ in 1 2; do echo scan >$debugfs/kmemleak || echo 'nobody looked for leaks'; done
	cat $debugfs/kmemleak
	echo clear >$debugfs/kmemleak
}

# Buffers are traced meanwhile, so that what that takes runs, too, and what shows it.
trace() {
	echo 1 >$tracefs/events/dmabuf/enable || echo 'nobody traces'
}
traced() {
	head -n 4000 $tracefs/trace >/dev/null || echo 'nobody traced'
}

# What only a module's own variables point to is found without the module.
unload() {
	for module in cma_mem ion_lite exporter; do rmmod "$module"; done
	pages 0
	rmmod dmabuf_core
}

# Those of modules that are gone are kept. The folder is where the object was made.
keep_counts() {
	find $debugfs/gcov -name '*.gcda' | while read -r from; do
		to=/share/gcov/$(basename "$(dirname "$from")")
		mkdir -p "$to" && cat "$from" >"$to/$(basename "$from")"
	done
}

# Two scans of ours find what is lost; one in between would find what is only on its way.
echo scan=off >$debugfs/kmemleak
# The kernel would say the first thing about DMA only, and udmabuf's own comes first.
echo 1 >$debugfs/dma-api/all_errors
{ trace; } 2>&1 | problem trace
"$@"
code=$?
echo 'looking for what was left behind' >&2
{ blind; } 2>&1 | problem blind
{ traced; } 2>&1 | problem traced
{ held; } 2>&1 | problem counters
{ drain; } 2>&1 | problem drain
{ pages 1; } 2>&1 | problem pages
{ leaks; } 2>&1 | problem leaks
{ unload; } 2>&1 | problem unload
{ leaks; } 2>&1 | problem leaks-of-modules
keep_counts
[ -e /share/gcov/core ] || echo 'nobody counted which lines ran' | problem counts
found=$(find $left -type f | wc -l)
[ "$found" -ne 0 ] || echo 'nothing was left behind' >&2
touch $left/done
[ "$code" -ne 0 ] || [ "$found" -eq 0 ] || code=1
exit "$code"
