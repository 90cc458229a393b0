#pragma once
// C that Swift cannot express: thread-locals, GNU extensions and macros with arguments. Each function says why it is here.

/// The event loop whose role the calling thread holds, or NULL. A thread-local must live in a C target: in a header
/// it would exist once per object file.
void *martlet_current_loop(void);
void martlet_set_current_loop(void *loop);
