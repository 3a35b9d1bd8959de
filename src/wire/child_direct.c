#include "wire/child_direct.h"

#include "wire/child_items.h"
#include "wire/wire.h"

int
fz_direct_begin(struct fz_port *port, const struct fz_call *call,
    struct fz_direct *direct, struct fz_err *err)
{
	const struct fz_mailbox_open *open = &port->items;
	uint32_t room;

	if (!fz_port_continues(port, FZ_WIRE_STORED, call) &&
	    fz_port_continue_items(port, FZ_WIRE_STORED, call, err) != 0)
		return -1;
	room = FZ_MAILBOX_OPEN_ITEMS - open->nitems;
	*direct = (struct fz_direct){ port->mailbox,
		fz_mailbox_open_word(port->word, open),
		fz_mailbox_sum_to(
		    &port->growing, port->own->out, open->start + open->len),
		call->seq, (room < call->nitems ? room : call->nitems) - 1,
		call->timed, &port->lost };
	return 0;
}

uint32_t
fz_direct_end(
    struct fz_port *port, struct fz_call *call, const struct fz_direct *direct)
{
	uint32_t n = direct->seq - call->seq;

	port->items.nitems = fz_mailbox_open_of(direct->word).nitems;
	port->word = direct->word;
	call->seq += n;
	call->item += n;
	call->nitems -= n;
	return n;
}
