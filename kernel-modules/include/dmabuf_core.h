/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What dmabuf_core offers the modules on top of it: zeroed buffers that are
 * counted per device, mapped into user space and shared as dma-bufs.
 */
#ifndef _DMABUF_CORE_H
#define _DMABUF_CORE_H

#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/device.h>
#include <linux/limits.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mutex.h>
#include <linux/sysfs.h>
#include <linux/types.h>

struct dentry;
struct device_node;
struct dma_buf;
struct dmabuf_account;
struct dmabuf_block;
struct dmabuf_buffer;
struct dmabuf_carveout;
struct dmabuf_pool;
struct seq_file;

/* A dmabuf_device.pool_max that dmabuf_device_init() makes a sixteenth of RAM. */
#define DMABUF_POOL_DEFAULT	U64_MAX

/**
 * struct dmabuf_device - a misc device that hands out buffers
 * @misc:	name and file operations; the module that owns these is kept
 *		loaded by every dma-buf
 * @max_bytes:	most bytes that may be allocated at a time, 0: half of RAM
 * @max_bytes_per_file: of these, most that may be allocated through one open
 *		file, 0: all
 * @pool_max:	most bytes of freed memory that are kept for new buffers, 0:
 *		none; scattered pages for all, contiguous memory for those of
 *		the same open file
 * @mem_accounting: whether the memory cgroup of whoever allocates is charged
 *		for what comes from the page allocator. Nothing is kept then:
 *		it would stay charged.
 * @bytes:	bytes allocated now, whole pages
 * @count:	buffers allocated now
 * @lock:	protects @buffers and the figures of the heaps; outside of the
 *		locks of buffers
 * @heaps:	what it allocates from
 * @buffers:	that are allocated now
 * @groups:	sysfs: the device's own attributes, and those of each heap
 * @debugfs:	directory with the files heaps and buffers
 * @pool:	what @pool_max is about, or NULL
 *
 * In sysfs it has the attributes buffers, bytes and max_bytes, with a limit for
 * each file max_bytes_per_file, and with a pool pool_bytes. All but @misc,
 * @max_bytes, @max_bytes_per_file, @pool_max and @mem_accounting is
 * dmabuf_core's own.
 */
struct dmabuf_device {
	struct miscdevice misc;
	u64 max_bytes;
	u64 max_bytes_per_file;
	u64 pool_max;
	bool mem_accounting;

	atomic64_t bytes;
	atomic_long_t count;
	struct mutex lock;	/* buffers, figures of heaps */
	struct list_head heaps;
	struct list_head buffers;
	const struct attribute_group **groups;
	struct dentry *debugfs;
	struct dmabuf_pool *pool;
};

/**
 * enum dmabuf_backing - the memory of a buffer
 * @DMABUF_SCATTERED:	pages from anywhere, in pieces as large as can be had
 * @DMABUF_CONTIGUOUS:	one piece below 4 GiB, from CMA where there is one
 * @DMABUF_PAGES:	one block of the page allocator, below 4 GiB
 * @DMABUF_CARVEOUT:	one piece of a carveout
 */
enum dmabuf_backing {
	DMABUF_SCATTERED,
	DMABUF_CONTIGUOUS,
	DMABUF_PAGES,
	DMABUF_CARVEOUT,
};

/* What is done with the caches of the CPU, and with bounce buffers. */
#define DMABUF_CLEAN		BIT(0)	/* what the CPU wrote is there for devices */
#define DMABUF_INVALIDATE	BIT(1)	/* what devices wrote is there for the CPU */

/* Whether what was written to a page at one address may be unseen at another. */
static inline bool dmabuf_caches_alias(void)
{
	return IS_ENABLED(CONFIG_CPU_CACHE_VIVT) || IS_ENABLED(CONFIG_CPU_V6) ||
	       IS_ENABLED(CONFIG_CPU_V6K);
}

#define DMABUF_HEAP_ATTRIBUTES	6

/**
 * struct dmabuf_heap - where buffers come from
 * @name:	what people call it
 * @exp_name:	what fdinfo says of its dma-bufs
 * @id:		number its folder in sysfs has, heap<id>
 * @hidden:	no folder in sysfs: whoever made it shows @group elsewhere
 * @backing:	the memory of its buffers
 * @carveout:	what they are pieces of, with DMABUF_CARVEOUT
 * @direct_io:	whether direct I/O may read and write user mappings of cached
 *		buffers, with DMABUF_SCATTERED: pages it is at stay its own as
 *		long as it lasts, and none is kept for another buffer
 * @secured:	whether it is secured from the start: devices may use its
 *		buffers, the CPU may not map them. That is this kernel's
 *		policy: nothing but it keeps other drivers out.
 * @device:	whose heap it is
 * @cpu_mappings: mappings of its buffers into user space and the kernel, or -1
 *		while it is secured
 * @node:	in dmabuf_device.heaps
 * @buffers:	buffers allocated now
 * @bytes:	bytes allocated now
 * @peak_bytes:	most bytes that were allocated at a time
 * @group:	its attributes in sysfs
 * @dir:	name of @group
 * @attributes:	that @group has
 * @list:	the same, as sysfs wants them
 *
 * From @device on it is dmabuf_core's own.
 */
struct dmabuf_heap {
	const char *name;
	const char *exp_name;
	unsigned int id;
	bool hidden;
	enum dmabuf_backing backing;
	struct dmabuf_carveout *carveout;
	bool direct_io;
	bool secured;

	struct dmabuf_device *device;
	atomic_long_t cpu_mappings;
	struct list_head node;
	u64 buffers;
	u64 bytes;
	u64 peak_bytes;
	struct attribute_group group;
	char dir[16];
	struct dev_ext_attribute attributes[DMABUF_HEAP_ATTRIBUTES];
	struct attribute *list[DMABUF_HEAP_ATTRIBUTES + 1];
};

void dmabuf_device_init(struct dmabuf_device *device);
void dmabuf_heap_add(struct dmabuf_device *device, struct dmabuf_heap *heap);
int dmabuf_heap_secure(struct dmabuf_heap *heap);
void dmabuf_heap_unsecure(struct dmabuf_heap *heap);
int dmabuf_device_register(struct dmabuf_device *device);
void dmabuf_device_unregister(struct dmabuf_device *device);
u64 dmabuf_device_limit(const struct dmabuf_device *device);
u64 dmabuf_device_taken(const struct dmabuf_device *device);

struct dmabuf_block *dmabuf_block_alloc(u64 size);
phys_addr_t dmabuf_block_phys(const struct dmabuf_block *block);
void dmabuf_block_free(struct dmabuf_block *block);

struct dmabuf_carveout *dmabuf_carveout_create(phys_addr_t base, u64 size);
void dmabuf_carveout_destroy(struct dmabuf_carveout *carveout);

const char *dmabuf_reserved_check(phys_addr_t base, u64 size);
const char *dmabuf_reserved_region(struct device_node *node, phys_addr_t *base, u64 *size);

struct dmabuf_account *dmabuf_account_open(const struct dmabuf_device *device);
void dmabuf_account_close(struct dmabuf_account *account);

struct dmabuf_buffer *dmabuf_buffer_alloc_aligned(struct dmabuf_heap *heap,
						  struct dmabuf_account *account, u64 len,
						  u64 align, bool cached);
struct dmabuf_buffer *dmabuf_buffer_alloc(struct dmabuf_heap *heap,
					  struct dmabuf_account *account, u64 len, bool cached);
void dmabuf_buffer_set_name(struct dmabuf_buffer *buffer, char *name);
void dmabuf_buffer_get(struct dmabuf_buffer *buffer);
void dmabuf_buffer_put(struct dmabuf_buffer *buffer);
size_t dmabuf_buffer_size(const struct dmabuf_buffer *buffer);
phys_addr_t dmabuf_buffer_phys(const struct dmabuf_buffer *buffer);
bool dmabuf_buffer_is_cached(const struct dmabuf_buffer *buffer);
const struct dmabuf_heap *dmabuf_buffer_heap(const struct dmabuf_buffer *buffer);
struct dmabuf_buffer *dmabuf_buffer_of(const struct dma_buf *dmabuf,
				       const struct dmabuf_device *device);

struct dma_buf *dmabuf_buffer_share(struct dmabuf_buffer *buffer, int mode);
struct dma_buf *dmabuf_buffer_hand_over(struct dmabuf_buffer *buffer, int mode);
bool dmabuf_valid_fd_flags(u32 flags);
int dmabuf_reply(struct dma_buf *dmabuf, int fd_flags, void __user *arg, const void *answer,
		 size_t size, int *fd);
void *dmabuf_buffer_vmap(struct dmabuf_buffer *buffer);
void dmabuf_buffer_vunmap(struct dmabuf_buffer *buffer);
void dmabuf_show_name(struct seq_file *seq, const char *name);
int dmabuf_buffer_find_mapped(struct dmabuf_buffer *buffer, unsigned long address, size_t len,
			      size_t *offset);
int dmabuf_buffer_flush(struct dmabuf_buffer *buffer, size_t offset, size_t len,
			unsigned int how);

#endif /* _DMABUF_CORE_H */
