/* port_io.h - a fz_child_io over a port: calls in, replies out. */
#ifndef FZ_PORT_IO_H
#define FZ_PORT_IO_H

#include <stdbool.h>

#include "child/call.h"
#include "wire/child_port.h"

struct fz_port_io {
	struct fz_child_io io;
	struct fz_port *port;
	struct fz_call call; /* the current call */
	bool refused;        /* there was no memory for the last reply */
};

/* Initialise; the address of `pio` must not change afterwards. */
void fz_port_io_init(struct fz_port_io *pio, struct fz_port *port);

#endif
