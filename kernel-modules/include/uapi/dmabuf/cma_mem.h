/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * /dev/cma_mem: physically contiguous memory, mapped into user space and
 * exportable as a dma-buf.
 */
#ifndef _UAPI_DMABUF_CMA_MEM_H
#define _UAPI_DMABUF_CMA_MEM_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct cmamem_info - argument of the CMEM_* calls
 * @name:	name of a new region, or NULL
 * @is_cache:	not 0: cached, else write-combined
 * @id:		the region
 * @offset:	what to give mmap
 * @len:	bytes
 * @phy_base:	physical address, 0 without CAP_SYS_RAWIO
 * @mem_base:	0
 *
 * 28 bytes on 32 bit, 32 bytes on 64 bit.
 */
struct cmamem_info {
	char *name;
	char is_cache;
	__u32 id;
	__u32 offset;
	__u32 len;
	__u32 phy_base;
	__u32 mem_base;
};

/*
 * The encoded size of these is that of an int, whatever they carry: programs
 * with these numbers exist.
 */
#define CMEM_IOCTL_MAGIC	'm'
#define CMEM_GET_PHYS		_IOW(CMEM_IOCTL_MAGIC, 1, int)
#define CMEM_MAP		_IOW(CMEM_IOCTL_MAGIC, 2, int)
#define CMEM_GET_SIZE		_IOW(CMEM_IOCTL_MAGIC, 3, int)
#define CMEM_UNMAP		_IOW(CMEM_IOCTL_MAGIC, 4, int)
#define CMEM_ALLOCATE		_IOW(CMEM_IOCTL_MAGIC, 5, int)
#define CMEM_CONNECT		_IOW(CMEM_IOCTL_MAGIC, 6, int)
#define CMEM_GET_TOTAL_SIZE	_IOW(CMEM_IOCTL_MAGIC, 7, int)
#define CMEM_CACHE_FLUSH	_IOW(CMEM_IOCTL_MAGIC, 8, int)

/* struct cmem_alloc.flags */
#define CMEM_FLAG_CACHED	1

/**
 * struct cmem_alloc - argument of CMEM_IOC_ALLOC
 * @len:	bytes wanted
 * @flags:	CMEM_FLAG_CACHED or 0
 * @fd:		the dma-buf descriptor (out), O_RDWR and O_CLOEXEC
 * @reserved:	must be 0
 */
struct cmem_alloc {
	__u64 len;
	__u32 flags;
	__s32 fd;
	__u64 reserved;
};

/**
 * struct cmem_export - argument of CMEM_IOC_EXPORT
 * @id:		the region
 * @fd_flags:	O_CLOEXEC and the access mode
 * @fd:		the dma-buf descriptor (out)
 * @reserved:	must be 0
 */
struct cmem_export {
	__u32 id;
	__u32 fd_flags;
	__s32 fd;
	__u32 reserved;
};

#define CMEM_IOC_ALLOC		_IOWR(CMEM_IOCTL_MAGIC, 0x20, struct cmem_alloc)
#define CMEM_IOC_EXPORT		_IOWR(CMEM_IOCTL_MAGIC, 0x21, struct cmem_export)

#endif /* _UAPI_DMABUF_CMA_MEM_H */
