/* local_home: a broker in the test's process (local_broker) with a directory of its own, that may
 * be stopped and started again at the same address with the same data. Where the environment names
 * a broker (outside.h), that one, cleaned, takes its place; the settings are its starter's
 * business. */
#pragma once

#include <stdbool.h>

struct local_home;

/* `settings`: "name=value", a NULL ends them; may be NULL. When it returns, the broker serves. */
struct local_home *local_home_start(const char *const *settings);
const char *local_home_address(const struct local_home *h); /* "127.0.0.1:PORT" */
void local_home_stop(struct local_home *h);                 /* gracefully; takes a stopped one */
void local_home_restart(struct local_home *h);              /* stopped or not */
/* A copy of the data as they are now, and the data set back to it, as a backup is made and restored
 * while the broker is stopped; it serves when they return. False, and nothing is done: the broker
 * is not ours. */
bool local_home_keep(struct local_home *h);
bool local_home_set_back(struct local_home *h);
void local_home_destroy(struct local_home *h); /* and its data; takes NULL */
