/* no_bus.h - the polling of a bus, for tests of gateways without a server. */
#ifndef NO_BUS_H
#define NO_BUS_H

#include "gateway/bus.h" /* no_bus.c defines functions of it */

#endif
