// SPDX-License-Identifier: GPL-2.0
/*
 * ptshare faults: of a guest, done by its host.
 *
 *	guest				host
 *	gate of pgprotect
 *	  may wait, drops the lock
 *	fence, if there is one -------> push down, for a write
 *	fault of the host VMA --------> allocate, fill the entry; filter
 *	link, if there is none
 *
 * The permission has been looked at by who called handle_mm_fault(), at the VMA
 * of the guest. The host's allows everything.
 *
 * No lock of the host is held. Its VMA does not change while it has guests, and
 * a guest's VMA, which is locked, holds a reference. Therefore nothing may drop
 * "the lock of the fault" in there: FAULT_FLAG_RETRY_NOWAIT says so. The gate is
 * the only one who returns VM_FAULT_RETRY under it for shared memory, for a page
 * that was protected after the guest's own gate.
 *
 * A page that is there already, put by another guest, is found by the fault of
 * the host, at the cost of a look: what was missing is the link.
 */
#include <linux/mm.h>
#include <linux/pgprotect.h>

#include "../internal.h"
#include "internal.h"

/* What of a guest's fault is to be told to the host's. */
#define HOST_FAULT_FLAGS	(FAULT_FLAG_WRITE | FAULT_FLAG_USER |	\
				 FAULT_FLAG_REMOTE | FAULT_FLAG_TRIED |	\
				 FAULT_FLAG_KILLABLE |			\
				 FAULT_FLAG_INTERRUPTIBLE)

/* Protected since the gate. Who may not retry comes again by itself. */
static vm_fault_t fault_again(struct vm_fault *vmf)
{
	if (!(vmf->flags & FAULT_FLAG_ALLOW_RETRY))
		return 0;
	if (!(vmf->flags & FAULT_FLAG_RETRY_NOWAIT))
		release_fault_lock(vmf);
	return VM_FAULT_RETRY;
}

vm_fault_t ptshare_fault(struct vm_area_struct *vma, unsigned long address,
			 unsigned int flags)
{
	struct ptshare_guest *guest = ptshare_guest(vma);
	struct vm_fault vmf = {
		.vma = vma,
		.address = address & PAGE_MASK,
		.real_address = address,
		.flags = flags,
		.pgoff = linear_page_index(vma, address),
	};
	unsigned long at;
	vm_fault_t ret;

	/*
	 * Only GUP with FOLL_FORCE comes here for PROT_NONE. A link cannot say
	 * that it is there and not to be used.
	 */
	if (!vma_is_accessible(vma))
		return VM_FAULT_SIGSEGV;
	ret = pgprotect_gate_fault(&vmf);
	if (ret)
		return ret;
	at = ptshare_host_address(guest, address);
	if (flags & FAULT_FLAG_WRITE)
		ptshare_push_down(guest->host, at);
	ret = __handle_mm_fault(guest->host->vma, at,
				(flags & HOST_FAULT_FLAGS) |
				FAULT_FLAG_ALLOW_RETRY |
				FAULT_FLAG_RETRY_NOWAIT);
	if (ret & VM_FAULT_ERROR)
		return ret;
	if (ret & VM_FAULT_RETRY)
		return fault_again(&vmf);
	return ret | ptshare_link(vma, address);
}
