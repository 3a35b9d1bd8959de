/*
 * child_items.h - the open frame: small results of items. The parent can read
 * each result in the mailbox as soon as it is complete.
 */
#ifndef FZ_CHILD_ITEMS_H
#define FZ_CHILD_ITEMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "wire/child_port.h"
#include "wire/mailbox.h"
#include "wire/wire.h"

struct fz_err;

#define FZ_PORT_ITEM ((size_t)4096)
/*
 * Number of bytes at which waiting items are written; less than a pipe holds.
 */
#define FZ_PORT_ITEMS ((size_t)48 << 10)

/*
 * Whether the open frame is of type `type`, and the current item of `call` can
 * be its next item.
 */
static inline bool
fz_port_continues(const struct fz_port *port, enum fz_wire_type type,
    const struct fz_call *call)
{
	const struct fz_mailbox_open *open = &port->items;

	return open->nitems != 0 && port->items_type == type &&
	       port->items_seq + open->nitems == call->seq &&
	       open->nitems < FZ_MAILBOX_OPEN_ITEMS;
}

/* The type of the frame for small results of the items of `call`. */
static inline enum fz_wire_type
fz_port_items_type(const struct fz_call *call)
{
	return fz_call_is_step(call) ? FZ_WIRE_VALUES : FZ_WIRE_ITEMS;
}

/*
 * Make the current item of `call` the next one of a frame of type `type`: of
 * the open frame, or of a new one. 0, or -1 and `err`.
 */
int fz_port_continue_items(struct fz_port *port, enum fz_wire_type type,
    const struct fz_call *call, struct fz_err *err);

/* Called by fz_port_item() if the open frame cannot take the item. */
unsigned char *fz_port_open_item(
    struct fz_port *port, const struct fz_call *call, struct fz_err *err);

/*
 * Room for the result of the current item, FZ_PORT_ITEM bytes. Write the result
 * there and call fz_port_item_end() with its length, or send the result in
 * another way. NULL and `err` if the parent is gone.
 */
static inline unsigned char *
fz_port_item(
    struct fz_port *port, const struct fz_call *call, struct fz_err *err)
{
	const struct fz_mailbox_open *open = &port->items;

	if (!fz_port_continues(port, fz_port_items_type(call), call) ||
	    open->start + open->len > FZ_PORT_ITEMS)
		return fz_port_open_item(port, call, err);
	return port->own->out + open->start + open->len;
}

/*
 * minimum number of bytes to copy: a shorter item is copied as this many bytes,
 * which is faster
 */
enum { FZ_PORT_FEW = 16 };

static inline void
fz_port_item_end(struct fz_port *port, size_t len)
{
	size_t at = port->items.start + port->items.len;

	if (len <= FZ_PORT_FEW)
		memcpy(
		    port->mailbox->out + at, port->own->out + at, FZ_PORT_FEW);
	else
		memcpy(port->mailbox->out + at, port->own->out + at, len);
	fz_mailbox_pad(port->own->out, at + len);
	port->items.len += (uint32_t)len;
	port->items.nitems++;
	port->word = fz_mailbox_open_word(
	    port->word + FZ_MAILBOX_OPEN_NEXT, &port->items);
	fz_mailbox_show(port->mailbox, port->word,
	    fz_mailbox_sum_to(&port->growing, port->own->out, at + len));
}

/*
 * For a buffer that begins in memory of the port. If it outgrows this memory,
 * its bytes move to memory from malloc().
 */
extern const struct fz_buf_store fz_port_store;

/*
 * Publish that the first `n` bytes of the replies are complete, and that no
 * frame is open.
 */
void fz_port_set_complete(struct fz_port *port, uint32_t n);

/* Called by fz_port_close_items() if the open frame has items. */
void fz_port_complete_items(struct fz_port *port, uint32_t nfollow);

/*
 * Complete the open frame. Afterwards it is a reply like any other. `nfollow`
 * items were measured together with the items of the frame, but have a reply of
 * their own.
 */
static inline void
fz_port_close_items(struct fz_port *port, uint32_t nfollow)
{
	if (port->items.nitems != 0)
		fz_port_complete_items(port, nfollow);
	else
		port->items.len = 0;
}

/* Copy `n` bytes of the replies, from offset `at`, to the mailbox. */
static inline void
fz_port_show(struct fz_port *port, size_t at, size_t n)
{
	memcpy(port->mailbox->out + at, port->own->out + at, n);
}

#endif
