/* failing_mem: base/mem.c's replacement in the programs called *_oom: fails an allocation that the
 * test chooses, and counts what is alive. Any thread may allocate; which allocation fails can be
 * foretold only where one does. */
#pragma once

/* The allocation number `index` from now on fails (0: the next), the ones before and after it
 * succeed; below 0: none. */
void mem_fail_at(long index);

long mem_asked(void); /* allocations since the last mem_fail_at, the failed one included */
long mem_alive(void); /* blocks that are not freed */
