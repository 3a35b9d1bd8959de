/*
 * port_io.h - a fz_child_io that reads calls from a port and writes the replies
 * to it.
 */
#ifndef FZ_PORT_IO_H
#define FZ_PORT_IO_H

#include <stdbool.h>

#include "child/call.h"
#include "wire/child_port.h"

struct fz_port_io {
	struct fz_child_io io;
	struct fz_port *port;
	struct fz_call call; /* the call that is being made */
	/* the last reply was replaced by an error, for lack of memory */
	bool refused;
};

/* Initialise. `pio` must not be moved afterwards. */
void fz_port_io_init(struct fz_port_io *pio, struct fz_port *port);

#endif
