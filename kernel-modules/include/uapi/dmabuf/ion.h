/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * /dev/ion: the allocation interface of ION as Linux 4.12 to 5.10 had it.
 * Numbers and layouts are theirs, so that existing clients work unchanged.
 */
#ifndef _UAPI_DMABUF_ION_H
#define _UAPI_DMABUF_ION_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* What a heap hands out, in struct ion_heap_data.type. */
enum ion_heap_type {
	ION_HEAP_TYPE_SYSTEM		= 0,	/* scattered pages */
	ION_HEAP_TYPE_SYSTEM_CONTIG	= 1,	/* one block of the page allocator */
	ION_HEAP_TYPE_CARVEOUT		= 2,	/* one piece of memory set aside */
	ION_HEAP_TYPE_CHUNK		= 3,
	ION_HEAP_TYPE_DMA		= 4,	/* contiguous, from CMA where there is one */
	ION_HEAP_TYPE_CUSTOM		= 5,
	ION_HEAP_TYPE_IOMMU		= 6,	/* ours: scattered, for devices with an IOMMU */
	ION_HEAP_TYPE_PROTECTED		= 7,	/* ours: contiguous, the CPU may not map it */
};

/* struct ion_allocation_data.flags; other bits are accepted and ignored. */
#define ION_FLAG_CACHED		1

/**
 * struct ion_allocation_data - argument of ION_IOC_ALLOC
 * @len:	bytes wanted; handed back unchanged
 * @heap_id_mask: heaps to try, bit n for the heap with id n
 * @flags:	ION_FLAG_CACHED or 0
 * @fd:		the dma-buf descriptor (out)
 * @unused:	ignored
 */
struct ion_allocation_data {
	__u64 len;
	__u32 heap_id_mask;
	__u32 flags;
	__u32 fd;
	__u32 unused;
};

#define ION_MAX_HEAP_NAME	32

/**
 * struct ion_heap_data - one heap, filled by ION_IOC_HEAP_QUERY
 * @name:	NUL-terminated
 * @type:	enum ion_heap_type
 * @heap_id:	the bit in heap_id_mask
 * @reserved0:	0
 * @reserved1:	0
 * @reserved2:	0
 */
struct ion_heap_data {
	char name[ION_MAX_HEAP_NAME];
	__u32 type;
	__u32 heap_id;
	__u32 reserved0;
	__u32 reserved1;
	__u32 reserved2;
};

/**
 * struct ion_heap_query - argument of ION_IOC_HEAP_QUERY
 * @cnt:	entries at @heaps; the number filled in, or with @heaps 0 the
 *		number of heaps, comes back
 * @reserved0:	must be 0
 * @heaps:	address of an array of struct ion_heap_data, or 0
 * @reserved1:	must be 0
 * @reserved2:	must be 0
 */
struct ion_heap_query {
	__u32 cnt;
	__u32 reserved0;
	__u64 heaps;
	__u32 reserved1;
	__u32 reserved2;
};

#define ION_IOC_MAGIC		'I'
#define ION_IOC_ALLOC		_IOWR(ION_IOC_MAGIC, 0, struct ion_allocation_data)
#define ION_IOC_HEAP_QUERY	_IOWR(ION_IOC_MAGIC, 8, struct ion_heap_query)
#define ION_IOC_ABI_VERSION	_IOR(ION_IOC_MAGIC, 9, __u32)

/* What ION_IOC_ABI_VERSION answers: descriptors, no handles. */
#define ION_ABI_VERSION		2

#endif /* _UAPI_DMABUF_ION_H */
