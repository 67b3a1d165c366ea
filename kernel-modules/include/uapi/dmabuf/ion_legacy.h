/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * /dev/ion with legacy_abi=1: the handle interface of ION as Linux 3.0 to 4.11
 * had it, and Qualcomm's kernels. Numbers and layouts are theirs, so that
 * existing clients work unchanged; names begin with ion_legacy, since the same
 * ones mean other things in ion.h.
 *
 * Each open file is a client. A client has one handle for a buffer, however
 * often it was given it, and gives it up as often. Handles are numbers from 1
 * and end with their client.
 */
#ifndef _UAPI_DMABUF_ION_LEGACY_H
#define _UAPI_DMABUF_ION_LEGACY_H

#include <asm/bitsperlong.h>
#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct ion_legacy_alloc - argument of ION_LEGACY_IOC_ALLOC
 * @len:	bytes wanted
 * @align:	what the physical address of a contiguous buffer is to be a
 *		multiple of: 0 or a power of two. More than 1 MiB is to be had
 *		from a carveout, and elsewhere by luck, where it counts for
 *		max_bytes as if @len was as large. Scattered pages ignore it.
 * @heap_id_mask: heaps to try, bit n for the heap with id n
 * @flags:	ION_FLAG_CACHED or 0; other bits are ignored
 * @handle:	the handle (out)
 */
struct ion_legacy_alloc {
	__kernel_size_t len;
	__kernel_size_t align;
	__u32 heap_id_mask;
	__u32 flags;
	__s32 handle;
};

/**
 * struct ion_legacy_alloc_v0 - argument of ION_LEGACY_IOC_ALLOC_V0
 * @len:	bytes wanted
 * @align:	as in struct ion_legacy_alloc
 * @flags:	the heaps to try, bit n for the heap with id n but for 0, and
 *		ION_FLAG_CACHED
 * @handle:	the handle (out)
 *
 * Qualcomm's first form, which only 32-bit programs have; so its number below is
 * for these alone.
 */
struct ion_legacy_alloc_v0 {
	__kernel_size_t len;
	__kernel_size_t align;
	__u32 flags;
	__s32 handle;
};

/**
 * struct ion_legacy_fd - a handle and a descriptor
 * @handle:	the handle: out for IMPORT, else in; ignored by SYNC
 * @fd:		the descriptor of a dma-buf: in for IMPORT and SYNC, else out
 */
struct ion_legacy_fd {
	__s32 handle;
	__s32 fd;
};

/**
 * struct ion_legacy_custom - argument of ION_LEGACY_IOC_CUSTOM
 * @cmd:	ION_LEGACY_SECURE_HEAP or ION_LEGACY_UNSECURE_HEAP
 * @arg:	id of a heap of type ION_HEAP_TYPE_PROTECTED
 */
struct ion_legacy_custom {
	__u32 cmd;
	unsigned long arg;
};

#define ION_LEGACY_SECURE_HEAP		1
#define ION_LEGACY_UNSECURE_HEAP	2

/**
 * struct ion_legacy_flush - argument of the cache calls
 * @handle:	the buffer, or 0
 * @fd:		the buffer's dma-buf, where @handle is 0
 * @vaddr:	where the caller has mapped what is meant
 * @offset:	where it begins in the buffer
 * @length:	its bytes, at least one
 */
struct ion_legacy_flush {
	__s32 handle;
	__s32 fd;
	void *vaddr;
	__u32 offset;
	__u32 length;
};

/**
 * struct ion_legacy_flags - argument of ION_LEGACY_IOC_GET_FLAGS
 * @handle:	the handle
 * @flags:	those the buffer was allocated with (out)
 */
struct ion_legacy_flags {
	__s32 handle;
	unsigned long flags;
};

#define ION_LEGACY_IOC_ALLOC		_IOWR('I', 0, struct ion_legacy_alloc)
#define ION_LEGACY_IOC_FREE		_IOWR('I', 1, __s32)
#define ION_LEGACY_IOC_MAP		_IOWR('I', 2, struct ion_legacy_fd)
#define ION_LEGACY_IOC_SHARE		_IOWR('I', 4, struct ion_legacy_fd)
#define ION_LEGACY_IOC_IMPORT		_IOWR('I', 5, struct ion_legacy_fd)
#define ION_LEGACY_IOC_CUSTOM		_IOWR('I', 6, struct ion_legacy_custom)
#define ION_LEGACY_IOC_SYNC		_IOWR('I', 7, struct ion_legacy_fd)
#define ION_LEGACY_IOC_CLEAN_CACHES	_IOWR('M', 0, struct ion_legacy_flush)
#define ION_LEGACY_IOC_INV_CACHES	_IOWR('M', 1, struct ion_legacy_flush)
#define ION_LEGACY_IOC_CLEAN_INV_CACHES	_IOWR('M', 2, struct ion_legacy_flush)
#define ION_LEGACY_IOC_GET_FLAGS	_IOWR('M', 3, struct ion_legacy_flags)

/*
 * The first form of IMPORT takes a descriptor and gives a handle in its place,
 * or takes a struct ion_legacy_fd as programs of that age pass it, whatever the
 * number says.
 */
#define ION_LEGACY_IOC_IMPORT_V0	_IOWR('I', 5, __s32)

/* Qualcomm's other first forms, which only 32-bit programs have. */
#if __BITS_PER_LONG == 32
#define ION_LEGACY_IOC_ALLOC_V0		_IOWR('I', 0, struct ion_legacy_alloc_v0)
#define ION_LEGACY_IOC_CLEAN_CACHES_V0	_IOWR('I', 7, struct ion_legacy_flush)
#define ION_LEGACY_IOC_INV_CACHES_V0	_IOWR('I', 8, struct ion_legacy_flush)
#define ION_LEGACY_IOC_CLEAN_INV_CACHES_V0 _IOWR('I', 9, struct ion_legacy_flush)
#define ION_LEGACY_IOC_GET_FLAGS_V0	_IOWR('I', 10, struct ion_legacy_flags)
#endif

#endif /* _UAPI_DMABUF_ION_LEGACY_H */
