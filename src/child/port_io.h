/* port_io.h - a fz_child_io on a port: reads calls, writes replies. */
#ifndef FZ_PORT_IO_H
#define FZ_PORT_IO_H

#include <stdbool.h>

#include "child/call.h"
#include "wire/child_port.h"

struct fz_port_io {
	struct fz_child_io io;
	struct fz_port *port;
	struct fz_call call; /* the call that is being made */
	bool refused; /* the last reply was an error for lack of memory */
};

/* Initialise. `pio` must not be moved afterwards. */
void fz_port_io_init(struct fz_port_io *pio, struct fz_port *port);

#endif
