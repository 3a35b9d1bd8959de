#include "no_bus.h"

int
fz_bus_fd(const struct fz_bus *bus)
{
	(void)bus;
	return -1;
}

int
fz_bus_socket(struct fz_bus *bus, short *events)
{
	(void)bus;
	*events = 0;
	return -1;
}

void
fz_bus_rest(struct fz_bus *bus)
{
	(void)bus;
}

void
fz_bus_read(struct fz_bus *bus)
{
	(void)bus;
}

void
fz_bus_write(struct fz_bus *bus)
{
	(void)bus;
}
