// SPDX-License-Identifier: Apache-2.0
// Who holds which lock, written where clang can check it (-Wthread-safety; scripts/check.sh
// --thread-safety). Other compilers see nothing. They work on Mutex and MutexLock (mutex.h), not on
// std::mutex:
//
//   Mutex mutex_;
//   std::deque<Event> events_ IDEFICS_GUARDED_BY(mutex_);
//   void Append(Event event) IDEFICS_REQUIRES(mutex_);      // the caller holds it
//   void Push(Event event) IDEFICS_EXCLUDES(mutex_);        // takes it itself
//   changed_.Wait(lock, [this]() IDEFICS_REQUIRES(mutex_) { return !events_.empty(); });
#pragma once

#if defined(__clang__)
#define IDEFICS_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define IDEFICS_THREAD_ATTRIBUTE(x)
#endif

// Of a member: read and written only with the lock held. PT: so is what the pointer points to.
#define IDEFICS_GUARDED_BY(mutex) IDEFICS_THREAD_ATTRIBUTE(guarded_by(mutex))
#define IDEFICS_PT_GUARDED_BY(mutex) IDEFICS_THREAD_ATTRIBUTE(pt_guarded_by(mutex))

// Of a function: its caller holds the locks, or must not hold them.
#define IDEFICS_REQUIRES(...) IDEFICS_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define IDEFICS_EXCLUDES(...) IDEFICS_THREAD_ATTRIBUTE(locks_excluded(__VA_ARGS__))

// Of a function: it returns with the locks taken or given back. Without an argument: this object.
#define IDEFICS_ACQUIRE(...) IDEFICS_THREAD_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define IDEFICS_RELEASE(...) IDEFICS_THREAD_ATTRIBUTE(release_capability(__VA_ARGS__))
#define IDEFICS_TRY_ACQUIRE(...) IDEFICS_THREAD_ATTRIBUTE(try_acquire_capability(__VA_ARGS__))

// Of a class: it is a lock, or holds one while it lives.
#define IDEFICS_CAPABILITY(name) IDEFICS_THREAD_ATTRIBUTE(capability(name))
#define IDEFICS_SCOPED_CAPABILITY IDEFICS_THREAD_ATTRIBUTE(scoped_lockable)

// Of a function that is right for a reason that clang cannot see; say it in a comment.
#define IDEFICS_NO_THREAD_SAFETY_ANALYSIS IDEFICS_THREAD_ATTRIBUTE(no_thread_safety_analysis)
