#include "this_member.h"

struct fz_membership this_member;
