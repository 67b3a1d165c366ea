// SPDX-License-Identifier: GPL-2.0-only
/* Memory that the device tree sets aside, and who may take it. */
#include <linux/mm.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>

#include "compat.h"
#include "core.h"

/* Regions that another driver may use, or that are no memory, are not for us. */
static const char *unusable(const struct device_node *region)
{
	if (of_property_present(region, "no-map"))
		return "its region is no-map: it has no struct pages";
	if (of_property_present(region, "reusable"))
		return "its region is reusable: the kernel itself uses it";
	if (of_property_present(region, "compatible"))
		return "its region has a compatible: it belongs to another driver";

	return NULL;
}

static bool holds(const struct reserved_mem *region, phys_addr_t base, u64 size)
{
	return base >= region->base && size <= region->size &&
	       base - region->base <= region->size - size;
}

static bool touches(const struct reserved_mem *region, phys_addr_t base, u64 size)
{
	return base < region->base + region->size && region->base < base + size;
}

/**
 * dmabuf_reserved_check() - whether memory is set aside for whoever asks
 * @base:	physical address
 * @size:	bytes
 *
 * One region has to hold all of it, and no other one may be any of it.
 *
 * Return: NULL, or what is wrong.
 */
const char *dmabuf_reserved_check(phys_addr_t base, u64 size)
{
	const char *outside = "it is not inside a reserved region of the device tree";
	struct device_node *parent = of_find_node_by_path("/reserved-memory");
	const struct reserved_mem *memory;
	const char *reason = NULL;
	struct device_node *region;

	for_each_available_child_of_node(parent, region) {
		memory = of_reserved_mem_lookup(region);
		if (!memory || !touches(memory, base, size))
			continue;
		reason = unusable(region);
		if (reason) {
			of_node_put(region);
			break;
		}
		if (holds(memory, base, size))
			outside = NULL;
	}
	of_node_put(parent);
	if (reason ?: outside)
		return reason ?: outside;

	return PAGE_ALIGNED(base) ? NULL : "its base is not at the start of a page";
}
EXPORT_SYMBOL_DMABUF(dmabuf_reserved_check);

/**
 * dmabuf_reserved_region() - the region that a node names by its memory-region
 * @node:	the node
 * @base:	physical address of the region (out)
 * @size:	its bytes (out)
 *
 * Return: NULL, or what is wrong.
 */
const char *dmabuf_reserved_region(struct device_node *node, phys_addr_t *base, u64 *size)
{
	const struct reserved_mem *memory;
	struct device_node *region;

	if (of_count_phandle_with_args(node, "memory-region", NULL) != 1)
		return "its memory-region is not one that is there";
	region = of_parse_phandle(node, "memory-region", 0);
	memory = of_reserved_mem_lookup(region);
	of_node_put(region);
	if (!memory)
		return "its memory-region is not reserved memory";
	if (!PAGE_ALIGNED(memory->base) || !PAGE_ALIGNED(memory->size))
		return "its memory-region is not made of whole pages";
	*base = memory->base;
	*size = memory->size;

	return NULL;
}
EXPORT_SYMBOL_DMABUF(dmabuf_reserved_region);
