/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What dmabuf_core offers the modules on top of it: zeroed buffers that are
 * counted per device, mapped into user space and shared as dma-bufs.
 */
#ifndef _DMABUF_CORE_H
#define _DMABUF_CORE_H

#include <linux/atomic.h>
#include <linux/miscdevice.h>
#include <linux/types.h>

struct dma_buf;
struct dmabuf_buffer;
struct vm_area_struct;

/**
 * struct dmabuf_device - a misc device that hands out buffers
 * @misc:	name and file operations; the module that owns these is kept
 *		loaded by every dma-buf
 * @exp_name:	what fdinfo says of its dma-bufs
 * @max_bytes:	most bytes that may be allocated at a time, 0: half of RAM
 * @bytes:	bytes allocated now, whole pages
 * @buffers:	buffers allocated now
 *
 * In sysfs it has the attributes buffers, bytes and max_bytes. All but @misc,
 * @exp_name and @max_bytes is dmabuf_core's own and starts as zero. Buffers
 * can be allocated before the device is registered.
 */
struct dmabuf_device {
	struct miscdevice misc;
	const char *exp_name;
	u64 max_bytes;
	atomic64_t bytes;
	atomic_long_t buffers;
};

/**
 * enum dmabuf_backing - the memory of a buffer
 * @DMABUF_SCATTERED:	pages from anywhere, in pieces as large as can be had
 * @DMABUF_CONTIGUOUS:	one piece below 4 GiB, from CMA where there is one
 */
enum dmabuf_backing {
	DMABUF_SCATTERED,
	DMABUF_CONTIGUOUS,
};

int dmabuf_device_register(struct dmabuf_device *device);
void dmabuf_device_unregister(struct dmabuf_device *device);

struct dmabuf_buffer *dmabuf_buffer_alloc(struct dmabuf_device *device, u64 len,
					  enum dmabuf_backing backing, bool cached);
void dmabuf_buffer_set_name(struct dmabuf_buffer *buffer, char *name);
void dmabuf_buffer_get(struct dmabuf_buffer *buffer);
void dmabuf_buffer_put(struct dmabuf_buffer *buffer);
size_t dmabuf_buffer_size(const struct dmabuf_buffer *buffer);
phys_addr_t dmabuf_buffer_phys(const struct dmabuf_buffer *buffer);

struct dma_buf *dmabuf_buffer_share(struct dmabuf_buffer *buffer, int mode);
int dmabuf_reply(struct dma_buf *dmabuf, int fd_flags, void __user *arg, const void *answer,
		 size_t size, int *fd);
int dmabuf_buffer_mmap(struct dmabuf_buffer *buffer, struct vm_area_struct *vma,
		       unsigned long pgoff);
void *dmabuf_buffer_vmap(struct dmabuf_buffer *buffer);
void dmabuf_buffer_vunmap(struct dmabuf_buffer *buffer);

#endif /* _DMABUF_CORE_H */
