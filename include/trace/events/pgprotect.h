/* SPDX-License-Identifier: GPL-2.0 */
/* pgprotect tracepoints: attach, protect, events, stalls and verdicts */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM pgprotect

#if !defined(_TRACE_PGPROTECT_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_PGPROTECT_H

#include <linux/kdev_t.h>
#include <linux/tracepoint.h>
#include <uapi/linux/pgprotect.h>

struct pgprotect_attachment;

TRACE_DEFINE_ENUM(PGPROTECT_ORIGIN_STORE);
TRACE_DEFINE_ENUM(PGPROTECT_ORIGIN_WRITE);
TRACE_DEFINE_ENUM(PGPROTECT_ORIGIN_SPLICE);
TRACE_DEFINE_ENUM(PGPROTECT_ORIGIN_TRUNCATE);
TRACE_DEFINE_ENUM(PGPROTECT_ORIGIN_FALLOCATE);
TRACE_DEFINE_ENUM(PGPROTECT_ORIGIN_REFLINK);
TRACE_DEFINE_ENUM(PGPROTECT_ORIGIN_PIN);
TRACE_DEFINE_ENUM(PGPROTECT_ORIGIN_UFFD);
TRACE_DEFINE_ENUM(PGPROTECT_ORIGIN_IOCTL);

#define show_pgprotect_origin(origin)				\
	__print_symbolic(origin,				\
		{ PGPROTECT_ORIGIN_STORE,	"store" },	\
		{ PGPROTECT_ORIGIN_WRITE,	"write" },	\
		{ PGPROTECT_ORIGIN_SPLICE,	"splice" },	\
		{ PGPROTECT_ORIGIN_TRUNCATE,	"truncate" },	\
		{ PGPROTECT_ORIGIN_FALLOCATE,	"fallocate" },	\
		{ PGPROTECT_ORIGIN_REFLINK,	"reflink" },	\
		{ PGPROTECT_ORIGIN_PIN,		"pin" },	\
		{ PGPROTECT_ORIGIN_UFFD,	"uffd" },	\
		{ PGPROTECT_ORIGIN_IOCTL,	"ioctl" })

DECLARE_EVENT_CLASS(pgprotect_attachment,

	TP_PROTO(const struct pgprotect_attachment *att),

	TP_ARGS(att),

	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(u32, file)
		__field(u32, mode)
		__field(u64, flags)
	),

	TP_fast_assign(
		__entry->dev = att->dev;
		__entry->ino = att->ino;
		__entry->file = att->id;
		__entry->mode = att->mode;
		__entry->flags = att->flags;
	),

	TP_printk("dev=%u:%u ino=%llu file=%u mode=%u flags=%#llx",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino,
		  __entry->file, __entry->mode, __entry->flags)
);

DEFINE_EVENT(pgprotect_attachment, pgprotect_attach,
	TP_PROTO(const struct pgprotect_attachment *att),
	TP_ARGS(att));

DEFINE_EVENT(pgprotect_attachment, pgprotect_detach,
	TP_PROTO(const struct pgprotect_attachment *att),
	TP_ARGS(att));

TRACE_EVENT(pgprotect_protect,

	TP_PROTO(unsigned int ranges, u64 pages, u32 tables, u32 flushes,
		 u32 fences, u32 pins, u64 ns, int ret),

	TP_ARGS(ranges, pages, tables, flushes, fences, pins, ns, ret),

	TP_STRUCT__entry(
		__field(unsigned int, ranges)
		__field(u64, pages)
		__field(u32, tables)
		__field(u32, flushes)
		__field(u32, fences)
		__field(u32, pins)
		__field(u64, ns)
		__field(int, ret)
	),

	TP_fast_assign(
		__entry->ranges = ranges;
		__entry->pages = pages;
		__entry->tables = tables;
		__entry->flushes = flushes;
		__entry->fences = fences;
		__entry->pins = pins;
		__entry->ns = ns;
		__entry->ret = ret;
	),

	TP_printk("ranges=%u pages=%llu tables=%u flushes=%u fences=%u pins=%u ns=%llu ret=%d",
		  __entry->ranges, __entry->pages, __entry->tables,
		  __entry->flushes, __entry->fences, __entry->pins,
		  __entry->ns, __entry->ret)
);

TRACE_EVENT(pgprotect_event,

	TP_PROTO(const struct pgprotect_attachment *att, u16 type,
		 pgoff_t first, pgoff_t last, u16 origin),

	TP_ARGS(att, type, first, last, origin),

	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(pgoff_t, first)
		__field(pgoff_t, last)
		__field(u16, type)
		__field(u16, origin)
	),

	TP_fast_assign(
		__entry->dev = att->dev;
		__entry->ino = att->ino;
		__entry->first = first;
		__entry->last = last;
		__entry->type = type;
		__entry->origin = origin;
	),

	TP_printk("dev=%u:%u ino=%llu type=%u pages=%#lx-%#lx origin=%s",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino,
		  __entry->type, __entry->first, __entry->last,
		  show_pgprotect_origin(__entry->origin))
);

TRACE_EVENT(pgprotect_stall_begin,

	TP_PROTO(const struct pgprotect_attachment *att, pgoff_t first,
		 pgoff_t last, u16 origin),

	TP_ARGS(att, first, last, origin),

	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(pgoff_t, first)
		__field(pgoff_t, last)
		__field(u16, origin)
	),

	TP_fast_assign(
		__entry->dev = att->dev;
		__entry->ino = att->ino;
		__entry->first = first;
		__entry->last = last;
		__entry->origin = origin;
	),

	TP_printk("dev=%u:%u ino=%llu pages=%#lx-%#lx origin=%s",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino,
		  __entry->first, __entry->last,
		  show_pgprotect_origin(__entry->origin))
);

TRACE_EVENT(pgprotect_stall_end,

	TP_PROTO(const struct pgprotect_attachment *att, pgoff_t first,
		 int result, u64 ns),

	TP_ARGS(att, first, result, ns),

	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(pgoff_t, first)
		__field(int, result)
		__field(u64, ns)
	),

	TP_fast_assign(
		__entry->dev = att->dev;
		__entry->ino = att->ino;
		__entry->first = first;
		__entry->result = result;
		__entry->ns = ns;
	),

	TP_printk("dev=%u:%u ino=%llu page=%#lx result=%d ns=%llu",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino,
		  __entry->first, __entry->result, __entry->ns)
);

TRACE_EVENT(pgprotect_verdict,

	TP_PROTO(u64 id, u32 action, int ret),

	TP_ARGS(id, action, ret),

	TP_STRUCT__entry(
		__field(u64, id)
		__field(u32, action)
		__field(int, ret)
	),

	TP_fast_assign(
		__entry->id = id;
		__entry->action = action;
		__entry->ret = ret;
	),

	TP_printk("id=%#llx action=%s ret=%d", __entry->id,
		  __print_symbolic(__entry->action,
				   { PGPROTECT_ALLOW, "allow" },
				   { PGPROTECT_REFUSE, "refuse" }),
		  __entry->ret)
);

#endif /* _TRACE_PGPROTECT_H */

#include <trace/define_trace.h>
