/* edit_keys.h - the keys of the editor that libedit does not have. */
#ifndef FZ_EDIT_KEYS_H
#define FZ_EDIT_KEYS_H

#include <histedit.h>

/* Bind the keys. This replaces bindings in the user's .editrc. */
void fz_edit_bind_keys(EditLine *el);

#endif
