// SPDX-License-Identifier: GPL-2.0-only
/* The heaps of the board's table, and allocation from those a client allows. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bits.h>
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "compat.h"
#include "ion.h"

static bool ignore_heap_mask;
module_param(ignore_heap_mask, bool, 0444);
MODULE_PARM_DESC(ignore_heap_mask,
		 "Every heap mask means the system heap, for programs that leave it uninitialised (default: N)");

static unsigned int direct_io;
module_param(direct_io, uint, 0444);
MODULE_PARM_DESC(direct_io,
		 "Mask of heaps of scattered pages whose mappings direct I/O (O_DIRECT, io_uring) may read and write (default: 0)");

/**
 * struct ion_heap - where buffers come from
 * @base:	dmabuf_core's part of it
 * @type:	as clients know it
 * @name:	as clients know it
 * @block:	memory that was taken for its carveout, and for those after it
 */
struct ion_heap {
	struct dmabuf_heap base;
	enum ion_heap_type type;
	char name[ION_MAX_HEAP_NAME];
	struct dmabuf_block *block;
};

/* Heaps of a mask are tried in this order. */
static struct ion_heap *heaps;
static unsigned int heap_count;

/* Says which of the entries from @first to @last is the one too many for a block. */
static void no_block(const struct ion_table *table, const struct ion_entry *first,
		     const struct ion_entry *last)
{
	const struct ion_entry *entry;
	struct dmabuf_block *block;
	u64 size = 0;

	for (entry = first; entry < last; entry++) {
		size += entry->size;
		block = dmabuf_block_alloc(size);
		if (IS_ERR(block))
			break;
		dmabuf_block_free(block);
	}
	ion_entry_error(table, entry, entry == first ?
			"there is no such piece of free memory" :
			"there is no such piece of free memory for it and those before it");
}

/*
 * Carveouts without a place that follow each other in the table follow each
 * other in memory: they are cut from one block, which the first one owns.
 */
static int place(struct ion_table *table, struct ion_entry *first, struct ion_heap *heap)
{
	const struct ion_entry *end = table->entries + table->count;
	struct ion_entry *entry;
	phys_addr_t base;
	u64 size = 0;

	for (entry = first; entry < end && entry->size && !entry->placed; entry++)
		size += entry->size;
	end = entry;
	heap->block = dmabuf_block_alloc(size);
	if (IS_ERR(heap->block)) {
		int ret = PTR_ERR(heap->block);

		heap->block = NULL;
		if (ret == -ENOMEM)
			no_block(table, first, end - 1);
		return ret;
	}
	base = dmabuf_block_phys(heap->block);
	for (entry = first; entry < end; entry++) {
		entry->base = base;
		entry->placed = true;
		base += entry->size;
	}

	return 0;
}

static int set_up(struct ion_table *table, struct ion_entry *entry, struct ion_heap *heap)
{
	struct dmabuf_carveout *carveout;
	int ret;

	strscpy(heap->name, entry->name, sizeof(heap->name));
	heap->type = entry->type;
	heap->base.name = heap->name;
	heap->base.exp_name = KBUILD_MODNAME;
	heap->base.id = entry->id;
	heap->base.backing = entry->backing;
	heap->base.direct_io = direct_io & BIT(entry->id);
	heap->base.secured = entry->type == ION_HEAP_TYPE_PROTECTED;
	if (!entry->size)
		return 0;

	if (!entry->placed) {
		ret = place(table, entry, heap);
		if (ret)
			return ret;
	}
	carveout = dmabuf_carveout_create(entry->base, entry->size);
	if (IS_ERR(carveout)) {
		if (PTR_ERR(carveout) == -ENXIO)
			ion_entry_error(table, entry, "its memory is not all RAM");
		return PTR_ERR(carveout);
	}
	heap->base.carveout = carveout;

	return 0;
}

/* Contiguous memory cannot wait for whoever uses its pages: it is freed in one piece. */
static int check_direct_io(const struct ion_table *table, const struct dmabuf_device *device)
{
	u32 wrong = direct_io;
	unsigned int i;

	if (!direct_io)
		return 0;
	if (dmabuf_caches_alias()) {
		pr_err("direct_io: the caches of this processor do not allow it\n");
		return -EINVAL;
	}
	if (device->mem_accounting && !COMPAT_MAPS_CHARGED_PAGES) {
		pr_err("direct_io and mem_accounting: this kernel cannot map pages that are charged\n");
		return -EINVAL;
	}
	for (i = 0; i < table->count; i++)
		if (table->entries[i].backing == DMABUF_SCATTERED)
			wrong &= ~BIT(table->entries[i].id);
	if (!wrong)
		return 0;
	pr_err("direct_io=0x%x: there is no heap %d of scattered pages\n", direct_io,
	       ffs(wrong) - 1);

	return -EINVAL;
}

/**
 * ion_heaps_init() - make the heaps of the board's table
 * @device:	whose heaps they will be
 *
 * Return: 0, or a negative errno after the log was told which entry or
 * parameter it is.
 */
int ion_heaps_init(struct dmabuf_device *device)
{
	struct ion_table *table;
	unsigned int i;
	int ret;

	table = ion_table_read();
	if (IS_ERR(table))
		return PTR_ERR(table);
	ret = check_direct_io(table, device);
	if (ret)
		goto free_table;
	heaps = kcalloc(table->count, sizeof(*heaps), GFP_KERNEL);
	if (!heaps) {
		ret = -ENOMEM;
		goto free_table;
	}
	heap_count = table->count;
	for (i = 0; i < heap_count; i++) {
		ret = set_up(table, &table->entries[i], &heaps[i]);
		if (ret) {
			ion_heaps_exit();
			goto free_table;
		}
		dmabuf_heap_add(device, &heaps[i].base);
	}

free_table:
	kfree(table);
	return ret;
}

/** ion_heaps_exit() - undo ion_heaps_init(), no buffer is left */
void ion_heaps_exit(void)
{
	unsigned int i;

	for (i = 0; i < heap_count; i++)
		if (heaps[i].base.carveout)
			dmabuf_carveout_destroy(heaps[i].base.carveout);
	for (i = 0; i < heap_count; i++)
		if (heaps[i].block)
			dmabuf_block_free(heaps[i].block);
	kfree(heaps);
}

/**
 * ion_heap_count() - the number of heaps
 *
 * Return: the number.
 */
unsigned int ion_heap_count(void)
{
	return heap_count;
}

/**
 * ion_heap_describe() - say what a client may know of a heap
 * @index:	less than ion_heap_count()
 * @data:	to be filled
 */
void ion_heap_describe(unsigned int index, struct ion_heap_data *data)
{
	const struct ion_heap *heap = &heaps[index];

	memset(data, 0, sizeof(*data));
	strscpy(data->name, heap->name, sizeof(data->name));
	data->type = heap->type;
	data->heap_id = heap->base.id;
}

static bool is_meant(const struct ion_heap *heap, u32 mask)
{
	return ignore_heap_mask ? heap->type == ION_HEAP_TYPE_SYSTEM : mask & BIT(heap->base.id);
}

/**
 * ion_heaps_alloc() - allocate from the first heap that can
 * @account:	of the file it is allocated through
 * @len:	bytes
 * @align:	of the physical address of contiguous memory, bytes: 0 or a power
 *		of two
 * @mask:	bits of the heaps to try
 * @flags:	ION_FLAG_CACHED or 0; other bits are ignored
 *
 * Return: the buffer, or an ERR_PTR: -ENODEV if no heap is in the mask, else
 * what the last heap said.
 */
struct dmabuf_buffer *ion_heaps_alloc(struct dmabuf_account *account, u64 len, u64 align,
				      u32 mask, u32 flags)
{
	struct dmabuf_buffer *buffer = ERR_PTR(-ENODEV);
	unsigned int i;

	for (i = 0; i < heap_count; i++) {
		if (!is_meant(&heaps[i], mask))
			continue;
		buffer = dmabuf_buffer_alloc_aligned(&heaps[i].base, account, len, align,
						     flags & ION_FLAG_CACHED);
		if (!IS_ERR(buffer) || fatal_signal_pending(current))
			break;
	}

	return buffer;
}

/**
 * ion_heap_secure() - let the CPU map no buffer of a heap, or let it
 * @id:		of a heap of type ION_HEAP_TYPE_PROTECTED
 * @secure:	whether it may not
 *
 * Return: 0, -EINVAL where there is no such heap, -EBUSY while there are
 * mappings.
 */
int ion_heap_secure(u64 id, bool secure)
{
	unsigned int i;

	for (i = 0; i < heap_count; i++) {
		if (heaps[i].base.id != id || heaps[i].type != ION_HEAP_TYPE_PROTECTED)
			continue;
		if (secure)
			return dmabuf_heap_secure(&heaps[i].base);
		dmabuf_heap_unsecure(&heaps[i].base);
		return 0;
	}

	return -EINVAL;
}
