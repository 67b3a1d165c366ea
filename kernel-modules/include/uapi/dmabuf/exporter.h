/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * /dev/exporter: one buffer of one page (or of `size=` bytes) that holds a
 * text. Any number of dma-buf descriptors refer to it.
 */
#ifndef _UAPI_DMABUF_EXPORTER_H
#define _UAPI_DMABUF_EXPORTER_H

#include <linux/ioctl.h>

/*
 * The number the tutorials use. It says nothing about its argument, which is
 * the same as that of EXPORTER_IOC_GET_FD.
 */
#define EXPORTER_GET_FD		0

/*
 * A new dma-buf descriptor through the pointer, O_CLOEXEC. Its access mode is
 * the one the device was opened with.
 */
#define EXPORTER_IOC_GET_FD	_IOR('E', 1, int)

#endif /* _UAPI_DMABUF_EXPORTER_H */
