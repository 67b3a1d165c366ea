// SPDX-License-Identifier: GPL-2.0-only
/*
 * The board's table of heaps, read from the module parameter heaps=, or else
 * from the device tree, or else the heaps that clients expect everywhere. A
 * table that is not right as a whole is refused.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitops.h>
#include <linux/ctype.h>
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "ion.h"

static char *heaps;
module_param(heaps, charp, 0444);
MODULE_PARM_DESC(heaps,
		 "Table of heaps, in the order of trial: id:type:name[:size[@base]],... with the types system, system_contig, carveout, dma, iommu, protected (default: the device tree's, or else 4:dma:ion_dma_heap,1:system_contig:ion_system_contig_heap,0:system:ion_system_heap)");

#define DEFAULT_HEAPS	"4:dma:ion_dma_heap,"				\
			"1:system_contig:ion_system_contig_heap,"	\
			"0:system:ion_system_heap"

enum ion_type_size { NO_SIZE, MAY_HAVE_SIZE, NEEDS_SIZE };

/**
 * struct ion_type - what may stand in a table
 * @name:	how it is spelled there
 * @type:	as clients know it
 * @backing:	the memory of its buffers, where no size is given
 * @size:	whether it has one
 */
struct ion_type {
	const char *name;
	enum ion_heap_type type;
	enum dmabuf_backing backing;
	enum ion_type_size size;
};

static const struct ion_type types[] = {
	{ "system", ION_HEAP_TYPE_SYSTEM, DMABUF_SCATTERED, NO_SIZE },
	{ "system_contig", ION_HEAP_TYPE_SYSTEM_CONTIG, DMABUF_PAGES, NO_SIZE },
	{ "carveout", ION_HEAP_TYPE_CARVEOUT, DMABUF_CARVEOUT, NEEDS_SIZE },
	{ "dma", ION_HEAP_TYPE_DMA, DMABUF_CONTIGUOUS, NO_SIZE },
	{ "iommu", ION_HEAP_TYPE_IOMMU, DMABUF_SCATTERED, NO_SIZE },
	{ "protected", ION_HEAP_TYPE_PROTECTED, DMABUF_CONTIGUOUS, MAY_HAVE_SIZE },
};

/* What dmabuf_carveout_create() takes. */
#define MAX_SIZE	((u64)INT_MAX << PAGE_SHIFT)

/**
 * ion_entry_error() - say what is wrong with an entry
 * @table:	the table
 * @entry:	one of its entries
 * @what:	what is wrong
 */
void ion_entry_error(const struct ion_table *table, const struct ion_entry *entry,
		     const char *what)
{
	pr_err("%s: entry %u%s%s: %s\n", table->source,
	       (unsigned int)(entry - table->entries) + 1, *entry->name ? ", " : "", entry->name,
	       what);
}

static int wrong(const struct ion_table *table, const struct ion_entry *entry, const char *what)
{
	ion_entry_error(table, entry, what);

	return -EINVAL;
}

static int set_id(struct ion_table *table, struct ion_entry *entry, u32 id)
{
	const struct ion_entry *other;

	entry->id = id;
	if (id >= ION_MAX_HEAPS)
		return wrong(table, entry, "an id is a number from 0 to 31");
	for (other = table->entries; other < entry; other++)
		if (other->id == id)
			return wrong(table, entry, "another heap has this id");

	return 0;
}

static int set_name(struct ion_table *table, struct ion_entry *entry, const char *name)
{
	const struct ion_entry *other;
	const char *c;

	if (!*name || strlen(name) >= sizeof(entry->name))
		return wrong(table, entry, "a name has 1 to 31 characters");
	for (c = name; *c; c++)
		if (!isascii(*c) || (!isalnum(*c) && !strchr("_-.", *c)))
			return wrong(table, entry, "a name is made of letters, digits, _, - and .");
	strscpy(entry->name, name, sizeof(entry->name));
	for (other = table->entries; other < entry; other++)
		if (!strcmp(other->name, name))
			return wrong(table, entry, "another heap has this name");

	return 0;
}

/* With the size, which decides about the backing. */
static int set_type(struct ion_table *table, struct ion_entry *entry, const char *name)
{
	const struct ion_type *type;

	for (type = types; type < types + ARRAY_SIZE(types); type++)
		if (!strcmp(type->name, name))
			break;
	if (type == types + ARRAY_SIZE(types))
		return wrong(table, entry,
			     "unknown type; there are system, system_contig, carveout, dma, iommu, protected");
	if (entry->size && type->size == NO_SIZE)
		return wrong(table, entry, "a heap of this type has no size");
	if (!entry->size && type->size == NEEDS_SIZE)
		return wrong(table, entry, "a heap of this type needs a size");
	entry->type = type->type;
	entry->backing = entry->size ? DMABUF_CARVEOUT : type->backing;

	return 0;
}

static int set_size(struct ion_table *table, struct ion_entry *entry, u64 size)
{
	if (!size || size > MAX_SIZE)
		return wrong(table, entry, "there are no carveouts of this size");
	entry->size = PAGE_ALIGN(size);

	return 0;
}

static bool overlap(const struct ion_entry *a, const struct ion_entry *b)
{
	return a->placed && b->placed && a->base < b->base + b->size &&
	       b->base < a->base + a->size;
}

static int set_base(struct ion_table *table, struct ion_entry *entry, phys_addr_t base)
{
	const char *why = dmabuf_reserved_check(base, entry->size);
	const struct ion_entry *other;

	entry->base = base;
	entry->placed = true;
	if (why)
		return wrong(table, entry, why);
	for (other = table->entries; other < entry; other++)
		if (overlap(other, entry))
			return wrong(table, entry, "it overlaps another heap");

	return 0;
}

/* Bytes, with or without K, M, G. Not memparse(), which wraps. */
static bool parse_bytes(char *text, u64 *bytes)
{
	static const char units[] = "KMG";
	size_t length = strlen(text);
	const char *unit;
	int shift = 0;

	unit = length ? strchr(units, toupper(text[length - 1])) : NULL;
	if (unit) {
		text[length - 1] = 0;
		shift = 10 * (unit - units + 1);
	}

	if (kstrtou64(text, 0, bytes) || *bytes > U64_MAX >> shift)
		return false;
	*bytes <<= shift;

	return true;
}

static int parse_place(struct ion_table *table, struct ion_entry *entry, char *text)
{
	char *size_text = strsep(&text, "@");
	u64 base;
	u64 size;
	int ret;

	if (!parse_bytes(size_text, &size))
		return wrong(table, entry, "a size is bytes, or a number with K, M or G");
	ret = set_size(table, entry, size);
	if (ret || !text)
		return ret;
	if (!parse_bytes(text, &base) || base != (phys_addr_t)base)
		return wrong(table, entry, "a base is a physical address");

	return set_base(table, entry, base);
}

static int parse_entry(struct ion_table *table, struct ion_entry *entry, char *text)
{
	char *id = strsep(&text, ":");
	char *type = strsep(&text, ":");
	char *name = strsep(&text, ":");
	char *place = strsep(&text, ":");
	u32 number;
	int ret;

	if (!name || text)
		return wrong(table, entry, "an entry is id:type:name[:size[@base]]");
	ret = kstrtou32(id, 0, &number) ? wrong(table, entry, "an id is a number from 0 to 31") :
		set_id(table, entry, number);
	if (!ret)
		ret = set_name(table, entry, name);
	if (!ret && place)
		ret = parse_place(table, entry, place);
	if (!ret)
		ret = set_type(table, entry, type);

	return ret;
}

static int parse(struct ion_table *table, const char *text)
{
	char *copy = kstrdup(text, GFP_KERNEL);
	char *rest = copy;
	char *entry;
	int ret = 0;

	if (!copy)
		return -ENOMEM;
	while (!ret && (entry = strsep(&rest, ",")) != NULL) {
		if (table->count == ION_MAX_HEAPS) {
			pr_err("%s: more than %d heaps\n", table->source, ION_MAX_HEAPS);
			ret = -EINVAL;
			break;
		}
		ret = parse_entry(table, &table->entries[table->count++], entry);
	}
	kfree(copy);

	return ret;
}

static int read_size(struct ion_table *table, struct ion_entry *entry, struct device_node *node)
{
	u32 size;

	if (!of_property_present(node, "dmabuf,size"))
		return 0;
	if (of_property_read_u32(node, "dmabuf,size", &size))
		return wrong(table, entry, "its dmabuf,size is not a number");

	return set_size(table, entry, size);
}

static int read_place(struct ion_table *table, struct ion_entry *entry, struct device_node *node)
{
	const char *why;
	phys_addr_t base;
	u64 size;
	int ret;

	if (!of_property_present(node, "memory-region"))
		return 0;
	if (entry->size)
		return wrong(table, entry, "it has both a size and a memory-region");
	why = dmabuf_reserved_region(node, &base, &size);
	if (why)
		return wrong(table, entry, why);
	ret = set_size(table, entry, size);

	return ret ?: set_base(table, entry, base);
}

static int read_node(struct ion_table *table, struct ion_entry *entry, u32 id,
		     struct device_node *node)
{
	const char *string;
	int ret;

	ret = set_id(table, entry, id);
	if (ret)
		return ret;
	if (of_property_read_string(node, "label", &string))
		return wrong(table, entry, "it has no label, which is its name");
	ret = set_name(table, entry, string);
	if (!ret)
		ret = read_size(table, entry, node);
	if (!ret)
		ret = read_place(table, entry, node);
	if (ret)
		return ret;
	if (of_property_read_string(node, "dmabuf,type", &string))
		return wrong(table, entry, "it has no dmabuf,type");

	return set_type(table, entry, string);
}

static struct device_node *node_of(struct device_node *parent, u32 wanted)
{
	struct device_node *node;
	u32 id;

	for_each_available_child_of_node(parent, node)
		if (!of_property_read_u32(node, "reg", &id) && id == wanted)
			break;

	return node;
}

/* A bit for each heap there is. */
static int read_ids(struct device_node *parent, u32 *ids)
{
	struct device_node *node;
	u32 id;

	*ids = 0;
	for_each_available_child_of_node(parent, node) {
		if (!of_property_read_u32(node, "reg", &id) && id < ION_MAX_HEAPS &&
		    !(*ids & BIT(id))) {
			*ids |= BIT(id);
			continue;
		}
		pr_err("%pOF: its reg is to be an id from 0 to 31, no other heap's\n", node);
		of_node_put(node);
		return -EINVAL;
	}
	if (!*ids) {
		pr_err("%pOF: it has no heaps\n", parent);
		return -EINVAL;
	}

	return 0;
}

/*
 * Nodes have no order in a device tree, overlays turn them round. The one of
 * the ids is taken where no other is given.
 */
static int read_order(struct device_node *parent, u32 ids, u32 *order)
{
	int count = hweight32(ids);
	int i;

	if (!of_property_present(parent, "dmabuf,order")) {
		for (i = 0; ids; ids &= ids - 1)
			order[i++] = __ffs(ids);
		return 0;
	}
	if (of_property_count_u32_elems(parent, "dmabuf,order") != count ||
	    of_property_read_u32_array(parent, "dmabuf,order", order, count))
		goto wrong;
	for (i = 0; i < count; i++) {
		if (order[i] >= ION_MAX_HEAPS || !(ids & BIT(order[i])))
			goto wrong;
		ids &= ~BIT(order[i]);
	}

	return 0;

wrong:
	pr_err("%pOF: its dmabuf,order is to have the id of each heap once\n", parent);
	return -EINVAL;
}

static int read_tree(struct ion_table *table, struct device_node *parent)
{
	u32 order[ION_MAX_HEAPS];
	struct device_node *node;
	u32 ids;
	int ret;

	ret = read_ids(parent, &ids);
	if (!ret)
		ret = read_order(parent, ids, order);
	while (!ret && table->count < hweight32(ids)) {
		node = node_of(parent, order[table->count]);
		ret = read_node(table, &table->entries[table->count], order[table->count], node);
		table->count++;
		of_node_put(node);
	}

	return ret;
}

#define COMPATIBLE	"dmabuf,ion-heaps"

/*
 * What MODULE_DEVICE_TABLE(of, ...) would make. Not with a table: the build
 * tools of distributions take its entries for those of their own pointer size,
 * when they build for a machine of another.
 */
MODULE_ALIAS("of:N*T*C" COMPATIBLE);
MODULE_ALIAS("of:N*T*C" COMPATIBLE "C*");

static int read(struct ion_table *table)
{
	struct device_node *node;
	int ret;

	if (heaps) {
		table->source = "heaps=";
		return parse(table, heaps);
	}
	for_each_compatible_node(node, NULL, COMPATIBLE)
		if (of_device_is_available(node))
			break;
	if (node) {
		table->source = "device tree";
		ret = read_tree(table, node);
	} else {
		table->source = "default heaps";
		ret = parse(table, DEFAULT_HEAPS);
	}
	of_node_put(node);

	return ret;
}

/**
 * ion_table_read() - read the board's table
 *
 * Return: the table, allocated by kmalloc, or an ERR_PTR: -EINVAL, after the
 * log was told which entry is wrong and why, or -ENOMEM.
 */
struct ion_table *ion_table_read(void)
{
	struct ion_table *table;
	int ret;

	table = kzalloc(sizeof(*table), GFP_KERNEL);
	if (!table)
		return ERR_PTR(-ENOMEM);
	ret = read(table);
	if (ret) {
		kfree(table);
		return ERR_PTR(ret);
	}

	return table;
}
