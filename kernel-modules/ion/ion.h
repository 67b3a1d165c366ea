/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of ion_lite share among themselves. */
#ifndef _ION_LITE_H
#define _ION_LITE_H

#include <linux/types.h>

#include <uapi/dmabuf/ion.h>

#include "dmabuf_core.h"

struct ion_client;

/* Bits of a heap mask. */
#define ION_MAX_HEAPS	32

/**
 * struct ion_entry - a heap as the board's table describes it
 * @id:		its bit in a heap mask
 * @type:	as clients know it
 * @backing:	the memory of its buffers; DMABUF_CARVEOUT has a @size
 * @name:	as clients know it
 * @size:	bytes of the carveout, whole pages
 * @base:	its physical address, with @placed
 * @placed:	@base is given; else the carveout is taken from what is free
 */
struct ion_entry {
	unsigned int id;
	enum ion_heap_type type;
	enum dmabuf_backing backing;
	char name[ION_MAX_HEAP_NAME];
	u64 size;
	phys_addr_t base;
	bool placed;
};

/**
 * struct ion_table - the board's table of heaps
 * @source:	where it comes from, for messages
 * @count:	how many @entries there are
 * @entries:	in the order of trial
 */
struct ion_table {
	const char *source;
	unsigned int count;
	struct ion_entry entries[ION_MAX_HEAPS];
};

void ion_entry_error(const struct ion_table *table, const struct ion_entry *entry,
		     const char *what);
struct ion_table *ion_table_read(void);

int ion_heaps_init(struct dmabuf_device *device);
void ion_heaps_exit(void);
unsigned int ion_heap_count(void);
void ion_heap_describe(unsigned int index, struct ion_heap_data *data);
struct dmabuf_buffer *ion_heaps_alloc(struct dmabuf_account *account, u64 len, u64 align,
				      u32 mask, u32 flags);
int ion_heap_secure(u64 id, bool secure);

long ion_legacy_ioctl(struct dmabuf_device *device, struct ion_client *client,
		      unsigned int cmd, void __user *arg, bool narrow);
struct ion_client *ion_legacy_open(struct dmabuf_account *account);
void ion_legacy_release(struct ion_client *client);
void ion_legacy_show(struct dmabuf_device *device);

int ion_dma_heap_init(struct dmabuf_device *device);
void ion_dma_heap_ready(void);
void ion_dma_heap_exit(void);

#endif /* _ION_LITE_H */
