# SPDX-License-Identifier: Apache-2.0
# cmake --install build/release --prefix P: the server, the model runtime in a folder of its own, and
# the pages. The server names no folder (no RUNPATH): it loads the runtime from where it is installed
# beside it. Libtorch is not copied: the runtime looks for it where it was built against, then by the
# system's rules (ld.so.conf, LD_LIBRARY_PATH); with -DCMAKE_SKIP_INSTALL_RPATH=ON by these alone.
set(runtime_folder ${CMAKE_INSTALL_LIBDIR}/cog-idefics)

install(TARGETS idefics-server RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
if(IDEFICS_TORCH)
  install(TARGETS idefics_torch_runner idefics_ops LIBRARY DESTINATION ${runtime_folder})
  set_target_properties(idefics_torch_runner idefics_ops PROPERTIES
    INSTALL_RPATH "$ORIGIN" INSTALL_RPATH_USE_LINK_PATH ON)
endif()
set(pages_folder ${CMAKE_INSTALL_DATADIR}/doc/cog-idefics)
install(FILES LICENSE README.md CHANGELOG.md SECURITY.md DESTINATION ${pages_folder})
install(DIRECTORY docs DESTINATION ${pages_folder})
