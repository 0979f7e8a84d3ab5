/* Swap space. A run counts its free slots and hands out offsets upwards, or it has a map of a
 * device (struct rmf_swap_map), in which a large folio needs an aligned run of free slots in one
 * cluster. docs/model.md, section 6. */
#ifndef RMF_SWAP_H
#define RMF_SWAP_H

#include "run.h"

/* Give the run a device whose free slots are those with free[offset] != 0. Offset 0 is never free.
 * Returns 0, RMF_ENOMEM, or RMF_EINVAL with *fault filled in. */
int rmf_swap_map_set(struct rmf_run *run, const uint8_t *free_slots, uint64_t nr_slots,
		     struct rmf_fault *fault);
void rmf_swap_map_free(struct rmf_run *run);

/* Whether there is a swap device at all, full or not. */
bool rmf_swap_configured(const struct rmf_run *run);
uint64_t rmf_swap_free_slots(const struct rmf_run *run);

/* Take slots for all pages of the folio, or none. Models folio_alloc_swap(), mm/swapfile.c, Linux
 * v7.0. */
bool rmf_swap_alloc(struct rmf_run *run, uint64_t folio);

/* Give back nr slots. Offsets that are no slots in use of the device are left alone. */
void rmf_swap_give_back(struct rmf_run *run, uint64_t offset, uint64_t nr);

#endif
