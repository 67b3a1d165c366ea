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
#include <linux/highmem.h>
#include <linux/module.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
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

/* 6.7: the kernel allocates shrinkers, and keeps a pointer in them. 6.0: they have names. */
#if COMPAT_SINCE(6, 7)
#define compat_shrinker_private(shrinker)	((shrinker)->private_data)
#define compat_shrinker_destroy(shrinker)	shrinker_free(shrinker)
#else
struct compat_shrinker {
	struct shrinker base;
	void *private;
};

#define compat_shrinker_private(shrinker)				\
	(container_of(shrinker, struct compat_shrinker, base)->private)

static inline void compat_shrinker_destroy(struct shrinker *shrinker)
{
	unregister_shrinker(shrinker);
	kfree(container_of(shrinker, struct compat_shrinker, base));
}
#endif

/* An ERR_PTR where it fails; @private is what compat_shrinker_private() returns. */
static inline struct shrinker *
compat_shrinker_create(const char *name,
		       unsigned long (*count)(struct shrinker *, struct shrink_control *),
		       unsigned long (*scan)(struct shrinker *, struct shrink_control *),
		       void *private)
{
#if COMPAT_SINCE(6, 7)
	struct shrinker *shrinker = shrinker_alloc(0, "%s", name);

	if (!shrinker)
		return ERR_PTR(-ENOMEM);
	shrinker->count_objects = count;
	shrinker->scan_objects = scan;
	shrinker->private_data = private;
	shrinker_register(shrinker);

	return shrinker;
#else
	struct compat_shrinker *own = kzalloc(sizeof(*own), GFP_KERNEL);
	int ret;

	if (!own)
		return ERR_PTR(-ENOMEM);
	own->base.count_objects = count;
	own->base.scan_objects = scan;
	own->base.seeks = DEFAULT_SEEKS;
	own->private = private;
#if COMPAT_SINCE(6, 0)
	ret = register_shrinker(&own->base, "%s", name);
#else
	ret = register_shrinker(&own->base);
#endif
	if (ret) {
		kfree(own);
		return ERR_PTR(ret);
	}

	return &own->base;
#endif
}

/* 6.3: flags of a mapping are changed by functions. */
#if COMPAT_SINCE(6, 3)
#define compat_vm_flags_set(vma, flags)		vm_flags_set(vma, flags)
#define compat_vm_flags_clear(vma, flags)	vm_flags_clear(vma, flags)
#else
#define compat_vm_flags_set(vma, flags)		((vma)->vm_flags |= (flags))
#define compat_vm_flags_clear(vma, flags)	((vma)->vm_flags &= ~(flags))
#endif

/* 5.11: pages that a memory cgroup was charged for can be mapped one by one. */
#define COMPAT_MAPS_CHARGED_PAGES	COMPAT_SINCE(5, 11)

/* 5.11: mappings of highmem by number. */
static inline void compat_zero_highmem(unsigned long pfn)
{
#if COMPAT_SINCE(5, 11)
	void *vaddr = kmap_local_pfn(pfn);

	clear_page(vaddr);
	kunmap_local(vaddr);
#else
	clear_highpage(pfn_to_page(pfn));
#endif
}

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
#define COMPAT_VMAP_BARE
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

/*
 * The other side of a dma-buf, for importers. By 7.2: what follows
 * allow_peer2peer, move_notify until then, is invalidate_mappings.
 */
#define COMPAT_MOVE_NOTIFY(callback)	.allow_peer2peer = false, callback

/*
 * 6.2: whoever maps holds the reservation lock, or has it taken. Before, static
 * importers map without it.
 */
#if COMPAT_SINCE(6, 2)
#define compat_map_attachment		dma_buf_map_attachment_unlocked
#define compat_unmap_attachment		dma_buf_unmap_attachment_unlocked
#define compat_vmap_locking		dma_buf_vmap_unlocked
#define compat_vunmap_locking		dma_buf_vunmap_unlocked
#else
#define compat_map_attachment		dma_buf_map_attachment
#define compat_unmap_attachment		dma_buf_unmap_attachment
#define compat_vmap_locking		dma_buf_vmap
#define compat_vunmap_locking		dma_buf_vunmap
#endif

/* The kernel address of a dma-buf in plain memory, or an ERR_PTR. */
static inline void *compat_vmap(struct dma_buf *dmabuf)
{
#ifdef COMPAT_VMAP_BARE
	return compat_vmap_locking(dmabuf) ?: ERR_PTR(-ENOMEM);
#else
	struct iosys_map map;
	int ret;

	ret = compat_vmap_locking(dmabuf, &map);
	if (ret)
		return ERR_PTR(ret);

	return map.vaddr;
#endif
}

static inline void compat_vunmap(struct dma_buf *dmabuf, void *vaddr)
{
#ifdef COMPAT_VMAP_BARE
	compat_vunmap_locking(dmabuf, vaddr);
#else
	struct iosys_map map;

	iosys_map_set_vaddr(&map, vaddr);
	compat_vunmap_locking(dmabuf, &map);
#endif
}

#endif /* _COMPAT_H */
