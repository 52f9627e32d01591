# SPDX-License-Identifier: Apache-2.0
# For the interface packages of this folder, after their find_package(...).
# The exports of the Python wheels name include folders of the machine that built the wheels;
# CMake refuses targets whose include folders do not exist.
get_property(imported DIRECTORY PROPERTY IMPORTED_TARGETS)
foreach(target IN LISTS imported)
  get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
  if(folders)
    set(kept "")
    foreach(folder IN LISTS folders)
      if(folder MATCHES "\\$<" OR EXISTS "${folder}")
        list(APPEND kept "${folder}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${kept}")
  endif()
endforeach()
file(GLOB messages RELATIVE "${CMAKE_CURRENT_SOURCE_DIR}" msg/*.msg)
