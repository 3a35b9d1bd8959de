#include "calls.h"

#include "base/buf.h"
#include "wire/child_port.h"
#include "wire/mailbox.h"
#include "wire/wire.h"

void
put_plain_job(struct fz_buf *out, uint32_t seq)
{
	size_t start = fz_wire_begin(out, FZ_WIRE_JOB, 0, seq);

	for (int i = 0; i < 3; i++)
		fz_buf_put_u32(out, 0); /* func, nargs, nvalues */
	fz_buf_put_u64(out, 0);
	fz_buf_put_u64(out, 0);
	fz_wire_end(out, start);
}

void
put_plain_chunk(struct fz_buf *out, uint32_t seq, uint32_t n, unsigned flags)
{
	size_t start = fz_wire_begin(out, FZ_WIRE_CHUNK, flags, seq);
	unsigned char number[8];

	fz_buf_put_u32(out, 0);
	fz_buf_put_u32(out, FZ_WIRE_CALL);
	fz_buf_put_u32(out, n);
	fz_buf_put_u32(out, n);
	for (int i = 0; i < 4; i++) /* first, seed, memory, result buffer */
		fz_buf_put_u64(out, 0);
	for (uint32_t i = 0; i < n; i++) {
		fz_le64_store(number, i);
		fz_wire_put_bytes(out, number, sizeof(number));
	}
	fz_wire_end(out, start);
}

void
put_plain_recall(struct fz_buf *out, uint32_t seq)
{
	fz_wire_end(out, fz_wire_begin(out, FZ_WIRE_RECALL, 0, seq));
}

void
port_fini(struct fz_port *port)
{
	fz_wire_in_fini(&port->wire);
	fz_buf_fini(&port->frame);
	fz_buf_fini(&port->value.buf);
	fz_mailbox_own_free(port->own);
}
