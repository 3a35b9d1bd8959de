#include "wire/child_items.h"

enum {
	ITEMS_HEAD = FZ_WIRE_HEADER + 4
}; /* bytes before the items of a frame */

void
fz_port_set_complete(struct fz_port *port, uint32_t n)
{
	port->items = (struct fz_mailbox_open){ .start = n };
	port->word = fz_mailbox_open_word(
	    port->word + FZ_MAILBOX_OPEN_NEXT, &port->items);
	fz_mailbox_pad(port->own->out, n);
	fz_mailbox_show(port->mailbox, port->word,
	    fz_mailbox_sum_to(&port->replies, port->own->out, n));
}

/*
 * Append the usage of the items of the open frame. `nfollow` items were
 * measured together with these items, but have a reply of their own.
 */
static void
put_used(struct fz_port *port, uint32_t nfollow)
{
	struct fz_mailbox_open *open = &port->items;
	unsigned char *at = port->own->out + open->start;
	struct fz_used used;

	fz_meter_end(&port->meter, &used);
	if (nfollow != 0)
		fz_meter_split(&port->meter, &used, open->nitems + nfollow);
	fz_wire_store_used(at + open->len, &used);
	fz_port_show(port, open->start + open->len, FZ_WIRE_USED);
	open->len += FZ_WIRE_USED;
	at[1] |= FZ_WIRE_MEASURED;
}

void
fz_port_complete_items(struct fz_port *port, uint32_t nfollow)
{
	struct fz_mailbox_open *open = &port->items;
	unsigned char *at = port->own->out + open->start;

	if (port->items_measured && port->items_type != FZ_WIRE_VALUES)
		put_used(port, nfollow);
	fz_le64_store(at + 8, open->len - FZ_WIRE_HEADER);
	fz_le32_store(at + FZ_WIRE_HEADER, open->nitems);
	fz_port_show(port, open->start, ITEMS_HEAD);
	fz_port_set_complete(port, open->start + open->len);
}

/*
 * Open a frame of items. The length and the number of items in its head are 0
 * until the frame is closed.
 */
static void
open_items(
    struct fz_port *port, enum fz_wire_type type, const struct fz_call *call)
{
	bool each = call->measured && type == FZ_WIRE_VALUES;
	struct fz_buf head = { .data = port->own->out + port->items.start,
		.cap = ITEMS_HEAD,
		.store = &fz_port_store };

	fz_wire_begin(&head, type, each ? FZ_WIRE_MEASURED : 0, call->seq);
	fz_buf_put_u32(&head, 0);
	fz_mailbox_pad(port->own->out, port->items.start + ITEMS_HEAD);
	fz_port_show(port, port->items.start, ITEMS_HEAD);
	port->items.len = ITEMS_HEAD;
	port->growing = port->replies;
	port->items_seq = call->seq;
	port->items_measured = call->measured;
	port->items_type = type;
}

int
fz_port_continue_items(struct fz_port *port, enum fz_wire_type type,
    const struct fz_call *call, struct fz_err *err)
{
	const struct fz_mailbox_open *open = &port->items;

	if (open->start + open->len > FZ_PORT_ITEMS &&
	    fz_port_flush(port, err) != 0)
		return -1;
	if (open->nitems != 0 && !fz_port_continues(port, type, call))
		fz_port_close_items(port, 0);
	if (open->nitems == 0)
		open_items(port, type, call);
	return 0;
}

unsigned char *
fz_port_open_item(
    struct fz_port *port, const struct fz_call *call, struct fz_err *err)
{
	const struct fz_mailbox_open *open = &port->items;

	if (fz_port_continue_items(port, fz_port_items_type(call), call, err) !=
	    0)
		return NULL;
	return port->own->out + open->start + open->len;
}
