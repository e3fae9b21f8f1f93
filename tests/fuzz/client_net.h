/* client_net: sockets for a client that is fuzzed. They lead to a broker without a network, whose
 * answers are changed on their way as the input says. The C library's functions are replaced by the
 * Makefile's --wrap, so that client/conn.c runs as it is. One at a time, one thread.
 */
#pragma once

#include "base/clock.h"
#include "tests/fuzz/fuzz.h"

void client_net_start(struct input *in); /* borrowed */
void client_net_stop(void);              /* everything must be closed */
const struct clock *client_net_clock(void);
bool client_net_changed(void); /* some answer was: what fails need not be wrong */
