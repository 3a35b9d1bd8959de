#include "child/port_io.h"

#include "base/err.h"

static int
next(void *ctx, const void **bytes, size_t *len, struct fz_err *err)
{
	struct fz_port_io *pio = ctx;

	return fz_port_argument(pio->port, &pio->call, bytes, len, err);
}

static void
release(void *ctx)
{
	struct fz_port_io *pio = ctx;

	fz_port_release(pio->port);
}

static void
begin(void *ctx, bool error, uint32_t word)
{
	struct fz_port_io *pio = ctx;

	fz_port_begin(pio->port, &pio->call,
	    error ? FZ_WIRE_ERROR : FZ_WIRE_RESULT, word);
}

static void
put(void *ctx)
{
	struct fz_port_io *pio = ctx;

	fz_port_put(pio->port);
}

static int
send(void *ctx)
{
	struct fz_port_io *pio = ctx;
	struct fz_err err = { 0 };
	int rc = fz_port_send(pio->port, &err);

	/*
	 * no memory for the reply: nothing of its frame was written, unlike
	 * after a failed write, so another reply can be sent
	 */
	pio->refused = rc != 0 && err.kind == FZ_ERR_MEMORY && err.code == 0;
	if (!pio->refused)
		return rc;
	begin(pio, true, FZ_ERR_MEMORY);
	put(pio);
	return fz_port_send(pio->port, &err);
}

void
fz_port_io_init(struct fz_port_io *pio, struct fz_port *port)
{
	*pio = (struct fz_port_io){ .port = port };
	pio->io = (struct fz_child_io){ .next = next,
		.release = release,
		.begin = begin,
		.put = put,
		.send = send,
		.port = port,
		.at = &pio->call,
		.out = &port->value.buf,
		.ctx = pio };
}
