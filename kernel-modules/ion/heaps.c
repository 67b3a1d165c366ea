// SPDX-License-Identifier: GPL-2.0-only
/* The table of heaps, and allocation from those a client allows. */
#include <linux/bits.h>
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/moduleparam.h>
#include <linux/sched/signal.h>
#include <linux/string.h>

#include "dmabuf_core.h"
#include "ion.h"

static bool ignore_heap_mask;
module_param(ignore_heap_mask, bool, 0444);
MODULE_PARM_DESC(ignore_heap_mask,
		 "Every heap mask means the system heap, for programs that leave it uninitialised (default: N)");

/**
 * struct ion_heap - where buffers come from
 * @name:	as clients know it
 * @type:	as clients know it
 * @id:		its bit in a heap mask
 * @backing:	the memory of its buffers
 */
struct ion_heap {
	const char *name;
	enum ion_heap_type type;
	unsigned int id;
	enum dmabuf_backing backing;
};

#define ION_SYSTEM_HEAP_ID	0
#define ION_DMA_HEAP_ID		4

/* Heaps of a mask are tried in this order. Clients rely on names and ids. */
static const struct ion_heap heaps[] = {
	{
		.name = "ion_dma_heap",
		.type = ION_HEAP_TYPE_DMA,
		.id = ION_DMA_HEAP_ID,
		.backing = DMABUF_CONTIGUOUS,
	}, {
		.name = "ion_system_heap",
		.type = ION_HEAP_TYPE_SYSTEM,
		.id = ION_SYSTEM_HEAP_ID,
		.backing = DMABUF_SCATTERED,
	},
};

/**
 * ion_heap_count() - the number of heaps
 *
 * Return: the number.
 */
unsigned int ion_heap_count(void)
{
	return ARRAY_SIZE(heaps);
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
	data->heap_id = heap->id;
}

/**
 * ion_heaps_alloc() - allocate from the first heap that can
 * @device:	whose buffer it will be
 * @len:	bytes
 * @mask:	bits of the heaps to try
 * @flags:	ION_FLAG_CACHED or 0; other bits are ignored
 *
 * Return: the buffer, or an ERR_PTR: -ENODEV if no heap is in the mask, else
 * what the last heap said.
 */
struct dmabuf_buffer *ion_heaps_alloc(struct dmabuf_device *device, u64 len, u32 mask, u32 flags)
{
	struct dmabuf_buffer *buffer = ERR_PTR(-ENODEV);
	unsigned int i;

	if (ignore_heap_mask)
		mask = BIT(ION_SYSTEM_HEAP_ID);
	for (i = 0; i < ARRAY_SIZE(heaps); i++) {
		if (!(mask & BIT(heaps[i].id)))
			continue;
		buffer = dmabuf_buffer_alloc(device, len, heaps[i].backing,
					     flags & ION_FLAG_CACHED);
		if (!IS_ERR(buffer) || fatal_signal_pending(current))
			break;
	}

	return buffer;
}
