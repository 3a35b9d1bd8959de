/* modules.h - the Lua modules in the library, written by tools/embed.c. */
#ifndef FZLUA_MODULES_H
#define FZLUA_MODULES_H

#include <stddef.h>

struct fz_module {
	const char *name; /* name for require; NULL ends the list */
	const unsigned char *bytes;
	size_t len;
};

extern const struct fz_module fz_modules[];

#endif
