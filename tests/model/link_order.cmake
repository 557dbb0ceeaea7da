# cmake -DPROGRAM=… -P link_order.cmake: libsentencepiece must be loaded before libc10
# (predictor/model/CMakeLists.txt says why).
execute_process(COMMAND readelf -d ${PROGRAM} OUTPUT_VARIABLE dynamic COMMAND_ERROR_IS_FATAL ANY)
string(FIND "${dynamic}" "libsentencepiece.so" sentencepiece)
string(FIND "${dynamic}" "libc10.so" c10)
if(sentencepiece EQUAL -1 OR c10 EQUAL -1 OR sentencepiece GREATER c10)
  message(FATAL_ERROR "${PROGRAM} loads libc10 before libsentencepiece (or lacks one of them)")
endif()
