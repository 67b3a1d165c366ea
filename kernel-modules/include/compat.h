/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The differences between kernels 5.10 to 7.2, and nothing but them. Each
 * names the kernel that made the change, and is told by a feature where the
 * preprocessor can see one.
 */
#ifndef _COMPAT_H
#define _COMPAT_H

#include <linux/dma-buf.h>
#include <linux/err.h>
#include <linux/export.h>
#include <linux/module.h>
#include <linux/version.h>

/* 5.10 lacks these, and is older than all that is asked for below. */
#ifndef LINUX_VERSION_MAJOR
#define LINUX_VERSION_MAJOR		5
#define LINUX_VERSION_PATCHLEVEL	10
#endif

#define COMPAT_SINCE(major, minor)					\
	((LINUX_VERSION_MAJOR << 8) + LINUX_VERSION_PATCHLEVEL >=	\
	 ((major) << 8) + (minor))

/* 7.1: zap_vma_ptes() has another name. */
#if COMPAT_SINCE(7, 1)
#define zap_vma_ptes(vma, address, size) zap_special_vma_range(vma, address, size)
#endif

/* 6.13: the namespace of a symbol is a string. */
#if COMPAT_SINCE(6, 13)
#define EXPORT_SYMBOL_DMABUF(symbol)	EXPORT_SYMBOL_NS_GPL(symbol, "DMABUF_CORE")
#define COMPAT_IMPORT_NS(ns)		MODULE_IMPORT_NS(#ns)
#else
#define EXPORT_SYMBOL_DMABUF(symbol)	EXPORT_SYMBOL_NS_GPL(symbol, DMABUF_CORE)
#define COMPAT_IMPORT_NS(ns)		MODULE_IMPORT_NS(ns)
#endif

/* 6.10: a tracepoint knows where its strings come from. */
#if COMPAT_SINCE(6, 10)
#define COMPAT_ASSIGN_STR(field, src)	do { (void)(src); __assign_str(field); } while (0)
#else
#define COMPAT_ASSIGN_STR(field, src)	__assign_str(field, src)
#endif

/* 6.2: the devnode operation of a class must not change the device. */
#if COMPAT_SINCE(6, 2)
#define COMPAT_DEVNODE_CONST		const
#else
#define COMPAT_DEVNODE_CONST
#endif

/*
 * The vmap operations of a dma-buf, which have the argument dmabuf:
 *
 *	static COMPAT_VMAP_OP(name)
 *	{
 *		void *vaddr = ... or an ERR_PTR;
 *
 *		return COMPAT_VMAP_RESULT(vaddr);
 *	}
 *
 * 5.18: struct iosys_map. 5.11: struct dma_buf_map. 5.10: the bare address,
 * NULL for failure. dma-buf.h includes the header of the one it means.
 */
#ifdef __DMA_BUF_MAP_H__
#define iosys_map		dma_buf_map
#define iosys_map_set_vaddr	dma_buf_map_set_vaddr
#elif !defined(__IOSYS_MAP_H__)
#define COMPAT_VMAP_OP(name)		void *(name)(struct dma_buf *dmabuf)
#define COMPAT_VUNMAP_OP(name)		void name(struct dma_buf *dmabuf, void *vaddr)
#define COMPAT_VMAP_RESULT(vaddr)	compat_null_if_error(vaddr)

static inline void *compat_null_if_error(void *vaddr)
{
	return IS_ERR(vaddr) ? NULL : vaddr;
}
#endif

#ifndef COMPAT_VMAP_OP
#define COMPAT_VMAP_OP(name)	int name(struct dma_buf *dmabuf, struct iosys_map *map)
#define COMPAT_VUNMAP_OP(name)	void name(struct dma_buf *dmabuf, struct iosys_map *map)
#define COMPAT_VMAP_RESULT(vaddr)	compat_set_map(map, vaddr)

static inline int compat_set_map(struct iosys_map *map, void *vaddr)
{
	if (IS_ERR(vaddr))
		return PTR_ERR(vaddr);
	iosys_map_set_vaddr(map, vaddr);

	return 0;
}
#endif

#endif /* _COMPAT_H */
