// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where the memory of /dev/cma_mem comes from: a region that the device tree
 * sets aside for it, or else CMA.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/sizes.h>
#include <linux/vmstat.h>

#include "heap.h"

#define COMPATIBLE	"dmabuf,cma-mem"

/* Not with MODULE_DEVICE_TABLE(): see ion/table.c. */
MODULE_ALIAS("of:N*T*C" COMPATIBLE);
MODULE_ALIAS("of:N*T*C" COMPATIBLE "C*");

static bool region = true;
module_param(region, bool, 0444);
MODULE_PARM_DESC(region, "Take memory from the region that the device tree sets aside, if it does (default: Y)");

static struct dmabuf_heap heap = {
	.name = "cma_mem",
	.exp_name = KBUILD_MODNAME,
	.backing = DMABUF_CONTIGUOUS,
};

/* Bytes there were when the module was loaded, 0: only max_bytes says. */
static u64 there;

static const char *take_region(struct device_node *node)
{
	struct dmabuf_carveout *carveout;
	phys_addr_t base;
	const char *why;
	u64 size;

	why = dmabuf_reserved_region(node, &base, &size);
	if (!why)
		why = dmabuf_reserved_check(base, size);
	if (why)
		return why;
	/* What struct cmamem_info has room for. */
	if ((u64)base + size > SZ_4G)
		return "its region does not lie below 4 GiB";
	carveout = dmabuf_carveout_create(base, size);
	if (IS_ERR(carveout))
		return PTR_ERR(carveout) == -ENXIO ? "its memory is not all RAM" :
			"there is no memory to keep count of its region";
	heap.backing = DMABUF_CARVEOUT;
	heap.carveout = carveout;
	there = size;

	return NULL;
}

static struct device_node *find_node(void)
{
	struct device_node *node;

	for_each_compatible_node(node, NULL, COMPATIBLE)
		if (of_device_is_available(node))
			break;

	return node;
}

/**
 * cmem_heap_init() - find the memory
 * @device:	whose it will be
 *
 * Return: 0, or -EINVAL after the log was told what is wrong with the node of
 * the device tree.
 */
int cmem_heap_init(struct dmabuf_device *device)
{
	struct device_node *node = region ? find_node() : NULL;
	const char *why = NULL;

	if (node) {
		why = take_region(node);
		if (why)
			pr_err("%pOF: %s\n", node, why);
		of_node_put(node);
	} else if (IS_ENABLED(CONFIG_DMA_CMA)) {
		/* How large the area is nobody tells a module. */
		there = (u64)global_zone_page_state(NR_FREE_CMA_PAGES) << PAGE_SHIFT;
	}
	if (why)
		return -EINVAL;
	dmabuf_heap_add(device, &heap);

	return 0;
}

/** cmem_heap_exit() - undo cmem_heap_init(), no buffer is left */
void cmem_heap_exit(void)
{
	if (heap.carveout)
		dmabuf_carveout_destroy(heap.carveout);
}

/**
 * cmem_heap_alloc() - allocate contiguous memory
 * @account:	of the file it is allocated through
 * @len:	bytes
 * @cached:	whether the CPU maps it cached
 *
 * Return: as dmabuf_buffer_alloc().
 */
struct dmabuf_buffer *cmem_heap_alloc(struct dmabuf_account *account, u64 len, bool cached)
{
	return dmabuf_buffer_alloc(&heap, account, len, cached);
}

/**
 * cmem_heap_total() - what may be handed out at a time
 * @device:	whose memory it is
 *
 * Return: bytes in whole pages: no more than there were when the module was
 * loaded, and no more than the device's limit.
 */
u64 cmem_heap_total(const struct dmabuf_device *device)
{
	u64 limit = round_down(dmabuf_device_limit(device), PAGE_SIZE);

	return there ? min(there, limit) : limit;
}
