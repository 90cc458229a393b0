#include "CMartlet.h"

static _Thread_local void *current_loop = 0;

void *martlet_current_loop(void) { return current_loop; }
void martlet_set_current_loop(void *loop) { current_loop = loop; }
