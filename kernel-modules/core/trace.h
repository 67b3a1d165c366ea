/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints of every buffer's life. Buffers go by the number they have in
 * debugfs.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM dmabuf

#if !defined(_DMABUF_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _DMABUF_TRACE_H

#include <linux/device.h>
#include <linux/tracepoint.h>

#include "compat.h"
#include "core.h"

DECLARE_EVENT_CLASS(dmabuf_buffer,
		    TP_PROTO(const struct dmabuf_buffer *buffer),
		    TP_ARGS(buffer),
		    TP_STRUCT__entry(__field(u64, id)
				     __field(u64, size)
				     __field(bool, cached)
				     __string(device, buffer->heap->device->misc.name)
				     __string(heap, buffer->heap->name)),
		    TP_fast_assign(__entry->id = buffer->id;
				   __entry->size = dmabuf_buffer_size(buffer);
				   __entry->cached = !buffer->write_combined;
				   COMPAT_ASSIGN_STR(device, buffer->heap->device->misc.name);
				   COMPAT_ASSIGN_STR(heap, buffer->heap->name);),
		    TP_printk("id=%llu size=%llu cached=%d device=%s heap=%s", __entry->id,
			      __entry->size, __entry->cached, __get_str(device), __get_str(heap))
);

DEFINE_EVENT(dmabuf_buffer, dmabuf_alloc,
	     TP_PROTO(const struct dmabuf_buffer *buffer),
	     TP_ARGS(buffer)
);

DEFINE_EVENT(dmabuf_buffer, dmabuf_free,
	     TP_PROTO(const struct dmabuf_buffer *buffer),
	     TP_ARGS(buffer)
);

/* Programs that read the format of an event know no enum of the kernel. */
TRACE_DEFINE_ENUM(DMA_BIDIRECTIONAL);
TRACE_DEFINE_ENUM(DMA_TO_DEVICE);
TRACE_DEFINE_ENUM(DMA_FROM_DEVICE);

DECLARE_EVENT_CLASS(dmabuf_attachment,
		    TP_PROTO(const struct dmabuf_buffer *buffer,
			     const struct dmabuf_attachment *attachment),
		    TP_ARGS(buffer, attachment),
		    TP_STRUCT__entry(__field(u64, id)
				     __field(u64, size)
				     __field(bool, cached)
				     __field(int, direction)
				     __field(unsigned int, segments)
				     __string(importer, dev_name(attachment->dev))),
		    TP_fast_assign(__entry->id = buffer->id;
				   __entry->size = dmabuf_buffer_size(buffer);
				   __entry->cached = !buffer->write_combined;
				   __entry->direction = attachment->direction;
				   __entry->segments = attachment->table.nents;
				   COMPAT_ASSIGN_STR(importer, dev_name(attachment->dev));),
		    TP_printk("id=%llu size=%llu cached=%d importer=%s direction=%s segments=%u",
			      __entry->id, __entry->size, __entry->cached, __get_str(importer),
			      __print_symbolic(__entry->direction,
					       { DMA_BIDIRECTIONAL, "both" },
					       { DMA_TO_DEVICE, "to-device" },
					       { DMA_FROM_DEVICE, "from-device" }),
			      __entry->segments)
);

DEFINE_EVENT(dmabuf_attachment, dmabuf_map,
	     TP_PROTO(const struct dmabuf_buffer *buffer,
		      const struct dmabuf_attachment *attachment),
	     TP_ARGS(buffer, attachment)
);

DEFINE_EVENT(dmabuf_attachment, dmabuf_unmap,
	     TP_PROTO(const struct dmabuf_buffer *buffer,
		      const struct dmabuf_attachment *attachment),
	     TP_ARGS(buffer, attachment)
);

DEFINE_EVENT(dmabuf_attachment, dmabuf_sync_for_cpu,
	     TP_PROTO(const struct dmabuf_buffer *buffer,
		      const struct dmabuf_attachment *attachment),
	     TP_ARGS(buffer, attachment)
);

DEFINE_EVENT(dmabuf_attachment, dmabuf_sync_for_device,
	     TP_PROTO(const struct dmabuf_buffer *buffer,
		      const struct dmabuf_attachment *attachment),
	     TP_ARGS(buffer, attachment)
);

DECLARE_EVENT_CLASS(dmabuf_range,
		    TP_PROTO(const struct dmabuf_buffer *buffer, size_t offset, size_t size),
		    TP_ARGS(buffer, offset, size),
		    TP_STRUCT__entry(__field(u64, id)
				     __field(u64, offset)
				     __field(u64, size)
				     __field(bool, cached)),
		    TP_fast_assign(__entry->id = buffer->id;
				   __entry->offset = offset;
				   __entry->size = size;
				   __entry->cached = !buffer->write_combined;),
		    TP_printk("id=%llu offset=%llu size=%llu cached=%d", __entry->id,
			      __entry->offset, __entry->size, __entry->cached)
);

DEFINE_EVENT(dmabuf_range, dmabuf_mmap,
	     TP_PROTO(const struct dmabuf_buffer *buffer, size_t offset, size_t size),
	     TP_ARGS(buffer, offset, size)
);

/* What the CPU has in its cache goes to memory, whoever has it mapped. */
DEFINE_EVENT(dmabuf_range, dmabuf_write_back,
	     TP_PROTO(const struct dmabuf_buffer *buffer, size_t offset, size_t size),
	     TP_ARGS(buffer, offset, size)
);

/* It goes there, and is dropped from the cache. */
DEFINE_EVENT(dmabuf_range, dmabuf_invalidate,
	     TP_PROTO(const struct dmabuf_buffer *buffer, size_t offset, size_t size),
	     TP_ARGS(buffer, offset, size)
);

#endif /* _DMABUF_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
