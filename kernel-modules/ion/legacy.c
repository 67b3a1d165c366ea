// SPDX-License-Identifier: GPL-2.0-only
/* /dev/ion with legacy_abi=1: the calls of the handle interface. */
#include <linux/capability.h>
#include <linux/dma-buf.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/limits.h>
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/uaccess.h>

#include <uapi/dmabuf/ion_legacy.h>

#include "client.h"
#include "ion.h"

static bool legacy_abi;
module_param(legacy_abi, bool, 0444);
MODULE_PARM_DESC(legacy_abi, "The handle interface of Linux 3.0 to 4.11, too (default: N)");

/* What whoever allocated a buffer may do with it. */
#define FMODE_ALL	(FMODE_READ | FMODE_WRITE)

/*
 * Arguments as 32-bit programs have them, and as 64-bit ones do. The number of
 * a call has the size of its argument in it: in the layout of the other width
 * it is a call nobody knows.
 */
struct narrow_alloc {
	u32 len;
	u32 align;
	u32 heap_id_mask;
	u32 flags;
	s32 handle;
};

struct wide_alloc {
	u64 len;
	u64 align;
	u32 heap_id_mask;
	u32 flags;
	s32 handle;
	u32 padding;
};

struct narrow_alloc_v0 {
	u32 len;
	u32 align;
	u32 flags;
	s32 handle;
};

struct narrow_custom {
	u32 cmd;
	u32 arg;
};

struct wide_custom {
	u32 cmd;
	u32 padding;
	u64 arg;
};

struct narrow_flush {
	s32 handle;
	s32 fd;
	u32 vaddr;
	u32 offset;
	u32 length;
};

struct wide_flush {
	s32 handle;
	s32 fd;
	u64 vaddr;
	u32 offset;
	u32 length;
};

struct narrow_flags {
	s32 handle;
	u32 flags;
};

struct wide_flags {
	s32 handle;
	u32 padding;
	u64 flags;
};

#define NARROW_ALLOC		_IOWR('I', 0, struct narrow_alloc)
#define NARROW_CUSTOM		_IOWR('I', 6, struct narrow_custom)
#define NARROW_FLUSH(nr)	_IOWR('M', nr, struct narrow_flush)
#define NARROW_GET_FLAGS	_IOWR('M', 3, struct narrow_flags)
#define NARROW_ALLOC_V0		_IOWR('I', 0, struct narrow_alloc_v0)
#define NARROW_FLUSH_V0(nr)	_IOWR('I', FIRST_FLUSH_V0 + (nr), struct narrow_flush)
#define NARROW_GET_FLAGS_V0	_IOWR('I', 10, struct narrow_flags)

#define WIDE_ALLOC		_IOWR('I', 0, struct wide_alloc)
#define WIDE_CUSTOM		_IOWR('I', 6, struct wide_custom)
#define WIDE_FLUSH(nr)		_IOWR('M', nr, struct wide_flush)
#define WIDE_GET_FLAGS		_IOWR('M', 3, struct wide_flags)

#define FIRST_FLUSH_V0		7
#define CLEAN			0
#define INV			1
#define CLEAN_INV		2

#define IS_OURS(name)		(ION_LEGACY_IOC_##name == \
				 (BITS_PER_LONG == 64 ? WIDE_##name : NARROW_##name))
static_assert(IS_OURS(ALLOC));
static_assert(IS_OURS(CUSTOM));
static_assert(IS_OURS(GET_FLAGS));
static_assert(ION_LEGACY_IOC_CLEAN_INV_CACHES ==
	      (BITS_PER_LONG == 64 ? WIDE_FLUSH(CLEAN_INV) : NARROW_FLUSH(CLEAN_INV)));

/* From a descriptor of the caller's. */
static struct dmabuf_buffer *get_buffer(struct dmabuf_device *device, int fd, fmode_t *mode)
{
	struct dmabuf_buffer *buffer;
	struct dma_buf *dmabuf;

	dmabuf = dma_buf_get(fd);
	if (IS_ERR(dmabuf))
		return ERR_CAST(dmabuf);
	buffer = dmabuf_buffer_of(dmabuf, device);
	*mode = dmabuf->file->f_mode & FMODE_ALL;
	dma_buf_put(dmabuf);

	return buffer;
}

/*
 * Gives the client a buffer, or what came instead of it, of which the caller's
 * reference is gone afterwards.
 */
static long reply(struct ion_client *client, struct dmabuf_buffer *buffer, fmode_t mode,
		  s32 __user *arg)
{
	int handle;
	long ret;

	if (IS_ERR(buffer))
		return PTR_ERR(buffer);

	handle = ion_client_give(client, buffer, mode);
	if (handle < 0) {
		ret = handle;
	} else {
		ret = put_user(handle, arg);
		/* Another thread may have guessed it, and given it up. */
		if (ret)
			ion_client_take(client, handle, buffer);
	}
	dmabuf_buffer_put(buffer);

	return ret;
}

static long legacy_alloc(struct ion_client *client, u64 len, u64 align, u32 mask, u32 flags,
			 s32 __user *handle)
{
	if (!len || (align && !is_power_of_2(align)))
		return -EINVAL;
	if (ion_clients_full())
		return -ENOSPC;

	return reply(client,
		     ion_heaps_alloc(ion_client_account(client), len, align, mask, flags),
		     FMODE_ALL, handle);
}

static long legacy_free(struct ion_client *client, const s32 __user *arg)
{
	s32 handle;

	if (get_user(handle, arg))
		return -EFAULT;

	return ion_client_take(client, handle, NULL);
}

/* MAP, whose descriptor is for mmap, and SHARE are the same. */
static long legacy_share(struct ion_client *client, struct ion_legacy_fd __user *arg)
{
	struct dmabuf_buffer *buffer;
	fmode_t mode;
	s32 handle;
	int fd;

	if (get_user(handle, &arg->handle))
		return -EFAULT;
	buffer = ion_client_find(client, handle, &mode);
	if (IS_ERR(buffer))
		return PTR_ERR(buffer);

	/* O_RDONLY, O_WRONLY and O_RDWR are these bits less one. */
	return dmabuf_reply(dmabuf_buffer_hand_over(buffer, (__force int)mode - 1), O_CLOEXEC,
			    &arg->fd, &fd, sizeof(fd), &fd);
}

static long legacy_import(struct dmabuf_device *device, struct ion_client *client,
			  const s32 __user *from, s32 __user *to)
{
	struct dmabuf_buffer *buffer;
	fmode_t mode;
	s32 fd;

	if (get_user(fd, from))
		return -EFAULT;
	buffer = get_buffer(device, fd, &mode);
	if (IS_ERR(buffer))
		return PTR_ERR(buffer);

	return reply(client, buffer, mode, to);
}

/*
 * The number says an int, a descriptor for which a handle comes; but programs
 * that have this number pass a struct ion_legacy_fd, whose handle says nothing.
 * Both find the handle in the same place.
 */
static long legacy_import_v0(struct dmabuf_device *device, struct ion_client *client,
			     struct ion_legacy_fd __user *arg)
{
	long ret, as_struct;

	ret = legacy_import(device, client, &arg->handle, &arg->handle);
	if (ret != -EBADF && ret != -EINVAL)
		return ret;
	as_struct = legacy_import(device, client, &arg->fd, &arg->handle);
	/* There may be no more than an int. */
	if (as_struct == -EBADF || as_struct == -EINVAL || as_struct == -EFAULT)
		return ret;

	return as_struct;
}

static long legacy_sync(struct dmabuf_device *device, const struct ion_legacy_fd __user *arg)
{
	struct dmabuf_buffer *buffer;
	fmode_t mode;
	long ret;
	s32 fd;

	if (get_user(fd, &arg->fd))
		return -EFAULT;
	buffer = get_buffer(device, fd, &mode);
	if (IS_ERR(buffer))
		return PTR_ERR(buffer);
	ret = dmabuf_buffer_flush(buffer, 0, dmabuf_buffer_size(buffer), DMABUF_CLEAN);
	dmabuf_buffer_put(buffer);

	return ret;
}

static int find_mapped(struct dmabuf_buffer *buffer, u64 address, u32 len, size_t *at)
{
	if (!len || address > ULONG_MAX)
		return -EINVAL;

	return dmabuf_buffer_find_mapped(buffer, address, len, at);
}

static long legacy_flush(struct dmabuf_device *device, struct ion_client *client,
			 const struct wide_flush *data, unsigned int what)
{
	static const unsigned int hows[] = {
		[CLEAN] = DMABUF_CLEAN,
		[INV] = DMABUF_INVALIDATE,
		[CLEAN_INV] = DMABUF_CLEAN | DMABUF_INVALIDATE,
	};
	struct dmabuf_buffer *buffer;
	fmode_t mode;
	size_t at;
	long ret;

	if (data->handle)
		buffer = ion_client_find(client, data->handle, &mode);
	else
		buffer = get_buffer(device, data->fd, &mode);
	if (IS_ERR(buffer))
		return PTR_ERR(buffer);

	ret = find_mapped(buffer, data->vaddr, data->length, &at);
	/* Programs disagree on whether the address has the offset in it. */
	if (!ret && at != data->offset)
		ret = find_mapped(buffer, data->vaddr + data->offset, data->length, &at);
	if (!ret)
		ret = dmabuf_buffer_flush(buffer, at, data->length, hows[what]);
	dmabuf_buffer_put(buffer);

	return ret;
}

static long legacy_custom(u32 cmd, u64 arg)
{
	if (cmd != ION_LEGACY_SECURE_HEAP && cmd != ION_LEGACY_UNSECURE_HEAP)
		return -ENOTTY;
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;

	return ion_heap_secure(arg, cmd == ION_LEGACY_SECURE_HEAP);
}

/* The flags the buffer was allocated with. */
static long legacy_get_flags(struct ion_client *client, const s32 __user *arg, u32 *flags)
{
	struct dmabuf_buffer *buffer;
	fmode_t mode;
	s32 handle;

	if (get_user(handle, arg))
		return -EFAULT;
	buffer = ion_client_find(client, handle, &mode);
	if (IS_ERR(buffer))
		return PTR_ERR(buffer);
	*flags = dmabuf_buffer_is_cached(buffer) ? ION_FLAG_CACHED : 0;
	dmabuf_buffer_put(buffer);

	return 0;
}

static long narrow_alloc(struct ion_client *client, struct narrow_alloc __user *arg)
{
	struct narrow_alloc data;

	if (copy_from_user(&data, arg, sizeof(data)))
		return -EFAULT;

	return legacy_alloc(client, data.len, data.align, data.heap_id_mask, data.flags,
			    &arg->handle);
}

static long narrow_alloc_v0(struct ion_client *client, struct narrow_alloc_v0 __user *arg)
{
	struct narrow_alloc_v0 data;

	if (copy_from_user(&data, arg, sizeof(data)))
		return -EFAULT;

	return legacy_alloc(client, data.len, data.align, data.flags & ~ION_FLAG_CACHED,
			    data.flags, &arg->handle);
}

static long narrow_custom(const struct narrow_custom __user *arg)
{
	struct narrow_custom data;

	if (copy_from_user(&data, arg, sizeof(data)))
		return -EFAULT;

	return legacy_custom(data.cmd, data.arg);
}

static long narrow_flush(struct dmabuf_device *device, struct ion_client *client,
			 const struct narrow_flush __user *arg, unsigned int what)
{
	struct narrow_flush data;
	struct wide_flush wide;

	if (copy_from_user(&data, arg, sizeof(data)))
		return -EFAULT;
	wide = (struct wide_flush){
		.handle = data.handle,
		.fd = data.fd,
		.vaddr = data.vaddr,
		.offset = data.offset,
		.length = data.length,
	};

	return legacy_flush(device, client, &wide, what);
}

static long narrow_get_flags(struct ion_client *client, struct narrow_flags __user *arg)
{
	u32 flags;
	long ret;

	ret = legacy_get_flags(client, &arg->handle, &flags);

	return ret ?: put_user(flags, &arg->flags);
}

static long narrow_ioctl(struct dmabuf_device *device, struct ion_client *client,
			 unsigned int cmd, void __user *arg)
{
	switch (cmd) {
	case NARROW_ALLOC:
		return narrow_alloc(client, arg);
	case NARROW_ALLOC_V0:
		return narrow_alloc_v0(client, arg);
	case NARROW_CUSTOM:
		return narrow_custom(arg);
	case NARROW_FLUSH(CLEAN):
	case NARROW_FLUSH(INV):
	case NARROW_FLUSH(CLEAN_INV):
		return narrow_flush(device, client, arg, _IOC_NR(cmd));
	case NARROW_FLUSH_V0(CLEAN):
	case NARROW_FLUSH_V0(INV):
	case NARROW_FLUSH_V0(CLEAN_INV):
		return narrow_flush(device, client, arg, _IOC_NR(cmd) - FIRST_FLUSH_V0);
	case NARROW_GET_FLAGS:
	case NARROW_GET_FLAGS_V0:
		return narrow_get_flags(client, arg);
	default:
		return -ENOTTY;
	}
}

static long wide_alloc(struct ion_client *client, struct wide_alloc __user *arg)
{
	struct wide_alloc data;

	if (copy_from_user(&data, arg, sizeof(data)))
		return -EFAULT;

	return legacy_alloc(client, data.len, data.align, data.heap_id_mask, data.flags,
			    &arg->handle);
}

static long wide_custom(const struct wide_custom __user *arg)
{
	struct wide_custom data;

	if (copy_from_user(&data, arg, sizeof(data)))
		return -EFAULT;

	return legacy_custom(data.cmd, data.arg);
}

static long wide_flush(struct dmabuf_device *device, struct ion_client *client,
		       const struct wide_flush __user *arg, unsigned int what)
{
	struct wide_flush data;

	if (copy_from_user(&data, arg, sizeof(data)))
		return -EFAULT;

	return legacy_flush(device, client, &data, what);
}

static long wide_get_flags(struct ion_client *client, struct wide_flags __user *arg)
{
	u32 flags;
	long ret;

	ret = legacy_get_flags(client, &arg->handle, &flags);

	return ret ?: put_user((u64)flags, &arg->flags);
}

static long wide_ioctl(struct dmabuf_device *device, struct ion_client *client,
		       unsigned int cmd, void __user *arg)
{
	switch (cmd) {
	case WIDE_ALLOC:
		return wide_alloc(client, arg);
	case WIDE_CUSTOM:
		return wide_custom(arg);
	case WIDE_FLUSH(CLEAN):
	case WIDE_FLUSH(INV):
	case WIDE_FLUSH(CLEAN_INV):
		return wide_flush(device, client, arg, _IOC_NR(cmd));
	case WIDE_GET_FLAGS:
		return wide_get_flags(client, arg);
	default:
		return -ENOTTY;
	}
}

/**
 * ion_legacy_ioctl() - answer a call of the handle interface
 * @device:	whose buffers can be imported
 * @client:	of the open file, or NULL
 * @cmd:	the call
 * @arg:	its argument
 * @narrow:	whether a program of 32 bits made it, on a kernel of 64
 *
 * Return: 0 or a negative errno: -ENOTTY for all others.
 */
long ion_legacy_ioctl(struct dmabuf_device *device, struct ion_client *client,
		      unsigned int cmd, void __user *arg, bool narrow)
{
	struct ion_legacy_fd __user *pair = arg;

	if (!client)
		return -ENOTTY;

	switch (cmd) {
	case ION_LEGACY_IOC_FREE:
		return legacy_free(client, arg);
	case ION_LEGACY_IOC_MAP:
	case ION_LEGACY_IOC_SHARE:
		return legacy_share(client, arg);
	case ION_LEGACY_IOC_IMPORT:
		return legacy_import(device, client, &pair->fd, &pair->handle);
	case ION_LEGACY_IOC_IMPORT_V0:
		return legacy_import_v0(device, client, arg);
	case ION_LEGACY_IOC_SYNC:
		return legacy_sync(device, arg);
	default:
		if (narrow || !IS_ENABLED(CONFIG_64BIT))
			return narrow_ioctl(device, client, cmd, arg);
		return wide_ioctl(device, client, cmd, arg);
	}
}

/**
 * ion_legacy_open() - make an open file a client, where there are clients
 * @account:	of the file
 *
 * Return: the client, NULL where there are none, or an ERR_PTR.
 */
struct ion_client *ion_legacy_open(struct dmabuf_account *account)
{
	return legacy_abi ? ion_client_create(account) : NULL;
}

/**
 * ion_legacy_release() - undo ion_legacy_open()
 * @client:	what it returned, but for an ERR_PTR
 */
void ion_legacy_release(struct ion_client *client)
{
	if (client)
		ion_client_destroy(client);
}

/**
 * ion_legacy_show() - list the clients in debugfs, where there are any
 * @device:	whose clients they are, which is registered
 */
void ion_legacy_show(struct dmabuf_device *device)
{
	if (legacy_abi)
		ion_clients_show(device);
}
