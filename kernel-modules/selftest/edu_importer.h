/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * What tests say to edu_importer. An open file is an importer of one dma-buf,
 * and lets go of it when it is closed. There is a device node for each PCI
 * device, /dev/edu_importer-ADDRESS, and it belongs to root.
 */
#ifndef _EDU_IMPORTER_H
#define _EDU_IMPORTER_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Bytes the device has room for in one transfer. */
#define EDU_WINDOW	2048

/* Directions, the numbers of enum dma_data_direction. */
#define EDU_BOTH	0
#define EDU_TO_DEVICE	1
#define EDU_FROM_DEVICE	2

/* The exporter may move the buffer while it is not mapped. */
#define EDU_DYNAMIC	1

/**
 * struct edu_import - attach a buffer to the device
 * @fd:		a dma-buf
 * @flags:	EDU_DYNAMIC, or 0 for a static importer
 *
 * EBUSY: this file has one already. EINVAL: not a dma-buf, or unknown flags.
 */
struct edu_import {
	__s32 fd;
	__u32 flags;
};

/**
 * struct edu_segment - a piece of a mapped buffer, as the device sees it
 * @address:	DMA address
 * @length:	bytes
 */
struct edu_segment {
	__u64 address;
	__u64 length;
};

/**
 * struct edu_map - map the buffer for the device
 * @segments:	user address of an array of struct edu_segment
 * @count:	how many there is room for (in), how many there are (out); those
 *		there is room for are filled in
 * @direction:	what transfers are to be made
 *
 * EBUSY: it is mapped.
 */
struct edu_map {
	__u64 segments;
	__u32 count;
	__u32 direction;
};

/**
 * struct edu_transfer - let the device move bytes, and wait for it
 * @offset:	first byte of the mapped buffer
 * @length:	bytes, from 1 to EDU_WINDOW
 * @direction:	EDU_TO_DEVICE fills the first bytes of the device's window,
 *		EDU_FROM_DEVICE writes them into the buffer
 *
 * EINVAL: not mapped for it, or outside of it. EINTR: after a fatal signal; the
 * device may go on until the file is closed.
 */
struct edu_transfer {
	__u64 offset;
	__u32 length;
	__u32 direction;
};

/* The CPU writes to the buffer; else it reads. */
#define EDU_CPU_WRITE		1
/* Without begin_cpu_access and end_cpu_access, as nobody should. */
#define EDU_CPU_UNSYNCED	2

/**
 * struct edu_cpu_access - copy bytes by the CPU, through dma_buf_vmap()
 * @offset:	first byte of the buffer
 * @length:	bytes
 * @bytes:	user address they come from or go to
 * @flags:	EDU_CPU_WRITE, EDU_CPU_UNSYNCED
 * @reserved:	0
 */
struct edu_cpu_access {
	__u64 offset;
	__u64 length;
	__u64 bytes;
	__u32 flags;
	__u32 reserved;
};

/**
 * struct edu_pages - which pages the kernel's own mapping of the buffer has
 * @frames:	user address of an array of __u64, filled with frame numbers
 * @count:	how many there is room for
 * @reserved:	0
 *
 * EINVAL: the buffer has more.
 */
struct edu_pages {
	__u64 frames;
	__u32 count;
	__u32 reserved;
};

#define EDU_IOC_IMPORT		_IOW('e', 0, struct edu_import)
#define EDU_IOC_MAP		_IOWR('e', 1, struct edu_map)
#define EDU_IOC_UNMAP		_IO('e', 2)
#define EDU_IOC_TRANSFER	_IOW('e', 3, struct edu_transfer)
#define EDU_IOC_CPU_ACCESS	_IOW('e', 4, struct edu_cpu_access)
#define EDU_IOC_PAGES		_IOW('e', 5, struct edu_pages)

#endif /* _EDU_IMPORTER_H */
