/* From a member back to the struct that it is embedded in: for timers, items and list entries, whose owner a callback
 * needs. */
#ifndef BASE_CONTAINER_H
#define BASE_CONTAINER_H

#include <stddef.h>

#define container_of(p, type, member) ((type *)(void *)(((char *)(p)) - offsetof(type, member)))

#endif
