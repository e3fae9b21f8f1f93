/* local_home: a broker in the test's process (local_broker) with a directory of its own, that may
 * be stopped and started again at the same address with the same data. Where the environment names
 * a broker (outside.h), that one, cleaned, takes its place; the settings are its starter's
 * business. */
#pragma once

struct local_home;

/* `settings`: "name=value", a NULL ends them; may be NULL. When it returns, the broker serves. */
struct local_home *local_home_start(const char *const *settings);
const char *local_home_address(const struct local_home *h); /* "127.0.0.1:PORT" */
void local_home_stop(struct local_home *h);                 /* gracefully; takes a stopped one */
void local_home_restart(struct local_home *h);              /* stopped or not */
void local_home_destroy(struct local_home *h);              /* and its data; takes NULL */
